"""Consent to send (RFC 7675)."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

from aioice import stun

from tests.support.stage import on_stage, until
from voice_streaming.rtc.consent import Consent
from voice_streaming.rtc.ice_port import PeerPort
from voice_streaming.rtc.peer import Peer


def check(peer: Peer, consent: Consent, now_s: float) -> stun.Message:
    """What the client is asked; nothing is sent."""
    pair = peer._ice.pair
    assert pair is not None
    port, asked = cast(PeerPort, pair.protocol), []
    send, port.send_stun = port.send_stun, lambda message, addr: asked.append(message)  # type: ignore[method-assign]
    consent.check(port, pair.remote_addr, now_s)
    port.send_stun = send  # type: ignore[method-assign]
    return asked[0]


def answer_to(peer: Peer, request: stun.Message) -> stun.Message:
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
    answer.add_message_integrity((peer._ice.connection.remote_password or "").encode())
    return stun.parse_message(bytes(answer))


async def test_only_an_authentic_answer_from_the_address_that_was_asked_renews_it() -> None:
    async with on_stage() as stage:
        peer, _ = await stage.receiver()
        pair = peer._ice.pair
        assert pair is not None
        consent = Consent(peer._ice.connection, 30.0, 0.0)
        request = check(peer, consent, 20.0)
        consent.response_received(answer_to(peer, request), ("127.0.0.1", 9))
        assert consent.has_expired(31.0), "from elsewhere"
        forged = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
        consent.response_received(forged, pair.remote_addr)
        assert consent.has_expired(31.0), "not authentic"
        consent.response_received(answer_to(peer, request), pair.remote_addr)
        assert not consent.has_expired(49.0)
        assert consent.has_expired(51.0)


async def test_checks_are_4_to_6_seconds_apart_and_not_all_alike() -> None:
    async with on_stage() as stage:
        peer, _ = await stage.receiver()
        timers: Any = stage.peers.endpoint.timers
        timers.discard(peer)
        delays: list[float] = []
        timers.once = lambda member, delay_s, call: delays.append(delay_s)
        now_s = asyncio.get_running_loop().time()
        for _ in range(200):
            peer.on_timer(now_s)
        due_s = [5 * number + delay_s for number, delay_s in enumerate(delays)]
        gaps = [second - first for first, second in itertools.pairwise(due_s)]
        assert len(delays) == 100
        assert 4 <= min(gaps) < 4.5
        assert 5.5 < max(gaps) <= 6


async def test_a_peer_that_answers_no_check_is_gone() -> None:
    async with on_stage() as stage:
        peer, client = await stage.receiver()
        assert peer._consent is not None
        peer._check_consent()
        granted = peer._consent._granted_s
        await until(lambda: peer._consent is not None and peer._consent._granted_s > granted, "an answer")
        peer.on_timer(asyncio.get_running_loop().time() + 31)
        assert stage.gone == ["does not answer any more"]
        await client.peer.close()
