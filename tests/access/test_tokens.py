"""Tokens and their grants, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from voice_streaming.access import tokens
from voice_streaming.access.tokens import grant_of, new_token, signed_grant
from voice_streaming.streams.grants import Grant, Scope

SECRET = "a secret of more than thirty-two characters"


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False}))


def test_a_token_is_valid_for_so_many_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda: 1_000_000.0))
    assert claims_of(new_token(SECRET, ["send"], [], 2))["exp"] == 1_000_000 + 2 * 86_400


def test_a_token_gives_what_it_was_made_for() -> None:
    everything = signed_grant(new_token(SECRET, ["send", "receive"], [], 1), SECRET)
    kitchen = signed_grant(new_token(SECRET, ["receive"], ["kitchen"], 1), SECRET)
    assert everything == Grant(frozenset({Scope.SEND, Scope.RECEIVE}), None)
    assert kitchen == Grant(frozenset({Scope.RECEIVE}), frozenset({"kitchen"}))


def test_a_token_names_streams_only_where_there_are_any() -> None:
    assert "streams" not in claims_of(new_token(SECRET, ["send"], [], 1))
    assert claims_of(new_token(SECRET, ["send"], ["kitchen"], 1))["streams"] == ["kitchen"]


def test_a_token_of_the_past_or_of_another_secret_gives_nothing() -> None:
    assert signed_grant(new_token(SECRET, ["send"], [], -1), SECRET) is None
    assert signed_grant(new_token(SECRET[::-1], ["send"], [], 1), SECRET) is None


def test_a_token_from_the_future_is_as_good_as_another() -> None:
    """A clock that was set back."""
    claims = {"scope": "send", "iat": 4_000_000_000, "exp": 4_100_000_000}
    assert signed_grant(jwt.encode(claims, SECRET, algorithm="HS256"), SECRET) == Grant(frozenset({Scope.SEND}))


@pytest.mark.parametrize("claims", [{}, {"scope": 5}, {"scope": "fly"}, {"scope": "send", "streams": "kitchen"}])
def test_a_token_that_says_nothing_of_use_gives_nothing(claims: dict[str, Any]) -> None:
    assert signed_grant(jwt.encode(claims, SECRET, algorithm="HS256"), SECRET) is None


def test_one_name_is_no_list_of_names() -> None:
    with pytest.raises(TypeError):
        grant_of(["send"], "kitchen")


def test_names_compare_as_they_are_registered() -> None:
    grant = grant_of(["send"], [" Ku\u0308che "])
    assert grant.covers("K\u00fcche")
    assert not grant.covers("Kitchen")
    assert grant_of(["send"], None).covers("Kitchen")
    assert not grant_of(["send"], []).covers("Kitchen")
