"""Offers, answers and candidates as peers take and give them."""

from __future__ import annotations

import re

import pytest

from tests.support.descriptions import browser_sdp
from tests.support.rtc_client import wait_until_connected
from tests.support.stage import PAYLOADS, Client, on_stage, until
from voice_streaming.process.refusal import Refused

LAST_PAYLOAD = b"the last"


async def test_an_answer_that_would_send_too_gets_every_packet_once() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        answer = await client.answer(await peer.offer())
        await peer.accept(answer.replace("a=recvonly", "a=sendrecv"))
        await wait_until_connected(client.peer)
        await until(lambda: peer.destination is not None, "the receiver has a destination")
        # What was sent twice would come before the last one.
        for payload in [*PAYLOADS, LAST_PAYLOAD]:
            stage.publish(payload)
        await until(lambda: client.packets.payloads()[-1:] == [LAST_PAYLOAD], "the last packet")
        assert client.packets.payloads() == [*PAYLOADS, LAST_PAYLOAD]
        assert len(stage.peers.fanout(stage.track)) == 1


async def test_candidates_may_be_trickled() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        answer = await client.answer(await peer.offer())
        lines = answer.splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("a=candidate", "a=end-of"))]
        await peer.accept("".join(kept))
        await peer.add_candidate("")
        for line in lines:
            if line.startswith("a=candidate"):
                await peer.add_candidate(line.strip().removeprefix("a="))
        await peer.add_candidate("")
        await wait_until_connected(client.peer)


async def test_too_many_candidates_are_refused() -> None:
    async with on_stage() as stage:
        peer = stage.peers.receiver(stage.track)
        stage._open.append(peer)
        for number in range(64):
            await peer.add_candidate(f"1 1 udp 1 127.0.0.1 {20_000 + number} typ host")
        with pytest.raises(Refused) as refused:
            await peer.add_candidate("")
        assert refused.value.code == "too_many_candidates"
        assert len(peer._ice.connection.remote_candidates) <= 64


async def test_what_is_of_no_concern_may_be_cut_short() -> None:
    """aiortc looks for the second word of `a=msid`, and fails at its absence with an IndexError."""
    cut = re.sub(r"a=msid:(\S+) \S+", r"a=msid:\1 ", browser_sdp("chromium_audio"))
    cut = re.sub(r"a=msid-semantic:.*", "a=msid-semantic:WMS *", cut)
    async with on_stage() as stage:
        peer = stage.peers.sender(stage.track)
        stage._open.append(peer)
        assert "a=recvonly" in await peer.answer(cut)


@pytest.mark.parametrize("line", ["a=ice-pwd:", "a=fingerprint:sha-256", "a=setup:", "m=audio"])
async def test_an_offer_with_a_line_that_is_cut_short_is_refused(line: str) -> None:
    whole = browser_sdp("chromium_audio")
    async with on_stage() as stage:
        peer = stage.peers.sender(stage.track)
        stage._open.append(peer)
        with pytest.raises(Refused) as refused:
            await peer.answer(re.sub(f"{line}.*", line, whole))
        assert refused.value.code == "bad_sdp"


async def test_a_second_answer_is_refused_and_changes_nothing() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        answer = await client.answer(await peer.offer())
        await peer.accept(answer)
        with pytest.raises(Refused) as refused:
            await peer.accept(answer)
        assert refused.value.code == "bad_sdp"
        await wait_until_connected(client.peer)


@pytest.mark.parametrize("name", ["chromium_audio", "firefox_audio", "firefox_video_audio_data"])
async def test_a_browsers_offer_is_answered(name: str) -> None:
    async with on_stage() as stage:
        peer = stage.peers.sender(stage.track)
        stage._open.append(peer)
        answer = await peer.answer(browser_sdp(name))
        assert answer.count("m=") == browser_sdp(name).count("m=")
        assert "a=recvonly" in answer
        assert " 127.0.0.1 " in answer
        assert f"opus/48000/2\r\na=fmtp:{peer._payload_type} " in answer


@pytest.mark.parametrize("name", ["chromium_answer", "firefox_answer"])
async def test_a_browsers_answer_is_accepted(name: str) -> None:
    async with on_stage() as stage:
        peer = stage.peers.receiver(stage.track)
        stage._open.append(peer)
        offer = await peer.offer()
        mid = offer.partition("a=mid:")[2].splitlines()[0]
        await peer.accept(browser_sdp(name).replace("a=mid:0", f"a=mid:{mid}").replace("BUNDLE 0", f"BUNDLE {mid}"))
        assert peer._payload_type == 96


async def test_a_description_that_does_not_fit_is_refused() -> None:
    async with on_stage() as stage:
        sender, receiver = stage.peers.sender(stage.track), stage.peers.receiver(stage.track)
        stage._open += [sender, receiver]
        for text in ("", "v=0\r\n", "m=audio", browser_sdp("chromium_recvonly")):
            with pytest.raises(Refused):
                await sender.answer(text)
        await receiver.offer()
        for text in ("", browser_sdp("chromium_answer").replace("a=mid:0", "a=mid:other")):
            with pytest.raises(Refused):
                await receiver.accept(text)
