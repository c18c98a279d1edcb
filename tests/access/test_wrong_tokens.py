"""Who tries tokens."""

from __future__ import annotations

import time

import pytest

from voice_streaming.access import wrong_tokens
from voice_streaming.access.wrong_tokens import DELAY_S, FORGOTTEN_S, MOST_WRONG_TOKENS, WrongTokens


def try_tokens(tried: WrongTokens, address: str, count: int) -> None:
    for _ in range(count):
        tried.note(address)


def test_the_tenth_is_logged_once_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    tried = WrongTokens()
    try_tokens(tried, "192.0.2.7", MOST_WRONG_TOKENS - 1)
    assert (caplog.messages, tried.delay_s("192.0.2.7")) == ([], 0)
    try_tokens(tried, "192.0.2.7", 20)
    assert caplog.messages == ["10 wrong tokens from 192.0.2.7"]
    assert tried.delay_s("192.0.2.7") == DELAY_S
    assert tried.delay_s("192.0.2.8") == 0


def test_addresses_of_one_ipv6_network_are_one(caplog: pytest.LogCaptureFixture) -> None:
    tried = WrongTokens()
    for host in range(MOST_WRONG_TOKENS):
        tried.note(f"2001:db8::{host:x}")
    assert caplog.messages == ["10 wrong tokens from 2001:db8::9"]
    assert tried.delay_s("2001:db8::ffff") == DELAY_S


def test_an_address_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    tried, begun_s = WrongTokens(), time.monotonic()
    try_tokens(tried, "192.0.2.7", MOST_WRONG_TOKENS)
    monkeypatch.setattr(time, "monotonic", lambda: begun_s + FORGOTTEN_S + 10)
    try_tokens(tried, "192.0.2.7", 1)
    assert tried.delay_s("192.0.2.7") == 0
    try_tokens(tried, "192.0.2.7", MOST_WRONG_TOKENS - 1)
    assert caplog.messages == ["10 wrong tokens from 192.0.2.7"] * 2


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_tokens, "MOST_ADDRESSES", 2)
    tried = WrongTokens()
    try_tokens(tried, "192.0.2.1", MOST_WRONG_TOKENS)
    for address in ("192.0.2.2", "192.0.2.1", "192.0.2.3"):
        tried.note(address)
    assert tried.delay_s("192.0.2.1") == DELAY_S
    tried.note("192.0.2.4")
    tried.note("192.0.2.5")
    assert tried.delay_s("192.0.2.1") == 0
