"""Who gets a name that is in use: `Peer.answers` is played by a stand-in."""

from __future__ import annotations

from typing import Any, Literal, cast

import pytest

from voice_streaming.process.refusal import Refused
from voice_streaming.sessions.claim import CHECK_TIMEOUT_S, Claim, check_claim, has_key
from voice_streaming.sessions.keys import digest, new_key
from voice_streaming.sessions.session import Session
from voice_streaming.streams.stream import Stream
from voice_streaming.streams.track import OpusTrack

KEY = new_key()
Policy = Literal["refuse", "replace", "never"]


class Holder:
    def __init__(self, answers: bool | None) -> None:
        self.peer: Holder | None = None if answers is None else self
        self.asked_s: list[float] = []
        self._answers = answers

    async def answers(self, timeout_s: float) -> bool:
        self.asked_s.append(timeout_s)
        return bool(self._answers)


def stream() -> Stream:
    return Stream("kitchen", "kitchen", OpusTrack(), "holder", resume_digest=digest(KEY))


async def is_granted(claim: Claim, policy: Policy = "refuse", answers: bool | None = True) -> bool:
    try:
        await check_claim(claim, stream(), cast(Session, Holder(answers)), policy)
    except Refused as refusal:
        return refusal.code != "name_taken"
    return True


@pytest.mark.parametrize(
    ("claim", "granted_by"),
    [
        (Claim("kitchen"), {"replace"}),
        (Claim("kitchen", take_over=True), {"replace", "refuse"}),
        (Claim("kitchen", resume=KEY), {"replace", "refuse", "never"}),
        (Claim("kitchen", resume=new_key()), {"replace"}),
        (Claim("kitchen", resume=""), {"replace"}),
    ],
)
async def test_a_holder_that_is_there_keeps_the_name_but_for_the_key_and_what_the_setting_allows(
    claim: Claim, granted_by: set[Policy]
) -> None:
    policies: tuple[Policy, ...] = ("refuse", "replace", "never")
    assert {policy for policy in policies if await is_granted(claim, policy)} == granted_by


@pytest.mark.parametrize("policy", ["refuse", "never"])
@pytest.mark.parametrize("answers", [False, None])
async def test_a_holder_that_is_gone_keeps_nothing(policy: Policy, answers: bool | None) -> None:
    assert await is_granted(Claim("kitchen"), policy, answers)
    await check_claim(Claim("kitchen"), stream(), None, policy)


async def test_the_holder_is_asked_once_and_only_where_it_matters() -> None:
    holder = Holder(True)
    with pytest.raises(Refused, match="in use by another sender: choose another name, or take it over"):
        await check_claim(Claim("kitchen"), stream(), cast(Session, holder), "refuse")
    assert holder.asked_s == [CHECK_TIMEOUT_S]
    await check_claim(Claim("kitchen", resume=KEY), stream(), cast(Session, holder), "refuse")
    assert holder.asked_s == [CHECK_TIMEOUT_S]


def test_keys_are_128_random_bits_and_only_their_digest_is_kept() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert {len(key) for key in keys} == {22}
    record = stream()
    assert has_key(Claim("kitchen", resume=KEY), record)
    assert not has_key(Claim("kitchen"), record)
    shown: list[Any] = [record, record.details()]
    assert all(KEY not in repr(one) for one in shown)


def test_a_stream_without_a_key_is_nobodys_to_resume() -> None:
    assert not has_key(Claim("kitchen", resume=""), Stream("kitchen", "kitchen", OpusTrack(), "holder"))
