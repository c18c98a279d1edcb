"""A sender that sends nothing, and one that is gone."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.stage import Client, Stage, on_stage, until
from voice_streaming.rtc import SenderPeer, rtp
from voice_streaming.settings.model import WebrtcSettings

TIMEOUT_S = 0.4


def told(peer: SenderPeer) -> list[str]:
    """What the peer tells from now on."""
    words: list[str] = []
    peer.on_silent = lambda: words.append("silent")
    peer.on_heard = lambda: words.append("heard")
    peer.on_gone = words.append
    return words


def impatient(stage: Stage, timeout_s: float = TIMEOUT_S) -> None:
    stage.peers.endpoint.settings = WebrtcSettings(host_addresses=("127.0.0.1",), media_timeout_s=timeout_s)


async def test_a_silent_sender_is_silent_once_and_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time passes in jumps: what the machine takes for a turn of the event loop is nothing beside them.

    All of them together are 20 s, as a check of consent may go unanswered in a jump, and the consent lasts for 30 s.
    """
    real, timeout_s, jumped_s = time.monotonic, 4.0, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() + jumped_s)
    async with on_stage() as stage:
        impatient(stage, timeout_s)
        sender, talker = await stage.sender()
        words = told(sender)
        for number in range(3):
            talker.say(b"voice")
            await until(lambda wanted=number + 1: stage.track.packets == wanted, "the packet")  # type: ignore[misc]
            jumped_s += timeout_s / 2
            await asyncio.sleep(0.05)
            assert words == []
        jumped_s += timeout_s / 2
        await until(lambda: words == ["silent"], "the silence", 1)
        jumped_s += 2 * timeout_s
        await asyncio.sleep(0.05)
        assert words == ["silent"]
        talker.say(b"voice")
        talker.say(b"voice")
        await until(lambda: words == ["silent", "heard"], "the next packet", 1)
        await until(lambda: stage.track.packets == 5, "the one after it")
        jumped_s += timeout_s
        await until(lambda: words == ["silent", "heard", "silent"], "silence again", 1)


async def test_a_silent_sender_is_gone_where_nobody_listens_for_silence() -> None:
    async with on_stage() as stage:
        impatient(stage)
        await stage.sender()
        await until(lambda: stage.gone == ["no packets come"], "the end", 2)


async def test_a_sender_without_packets_after_a_further_offer_is_silent_in_time() -> None:
    async with on_stage() as stage:
        impatient(stage)
        sender, talker = await stage.sender()
        words = told(sender)
        talker.say(b"voice")
        await until(lambda: stage.track.packets == 1, "a packet")
        begun_s = asyncio.get_running_loop().time()
        await sender.answer(talker.peer.localDescription.sdp)
        assert sender._silence_timer is not None
        assert sender._silence_timer.when() <= begun_s + TIMEOUT_S
        await until(lambda: words == ["silent"], "the silence", 2)


async def test_a_closed_sender_tells_nothing() -> None:
    async with on_stage() as stage:
        impatient(stage)
        sender, _ = await stage.sender()
        words = told(sender)
        await sender.close()
        await asyncio.sleep(1.5 * TIMEOUT_S)
        assert words == []


async def test_a_goodbye_counts_only_for_the_ssrc_that_it_names() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.heard_sender()
        assert sender.reception is not None
        ssrc = sender.reception.ssrc
        await talker.send_rtcp(rtp.pack_bye(ssrc ^ 1, "another track"))
        talker.say(b"voice")
        await until(lambda: stage.track.packets == 2, "the voice goes on")
        assert stage.gone == []
        await talker.send_rtcp(rtp.pack_bye(ssrc, "talker"))
        await until(lambda: stage.gone == ["left"], "the goodbye")


async def test_a_receivers_goodbye_counts_for_the_ssrc_that_it_reports_with() -> None:
    async with on_stage() as stage:
        receiver, listener = await stage.receiver()
        block = rtp.ReportBlock(stage.peers.fanout(stage.track).ssrc, 0, 0, 1, 0, 0, 0)
        await listener.send_rtcp(rtp.pack_receiver_report(5, block, "listener"))
        await until(lambda: receiver.last_report is not None, "the report")
        bye_of_another = rtp.pack_receiver_report(5, block, "listener") + rtp.pack_bye(6, "another")[-8:]
        await listener.send_rtcp(bye_of_another)
        await listener.send_rtcp(rtp.pack_receiver_report(5, block._replace(jitter=1), "listener"))
        await until(lambda: receiver.last_report is not None and receiver.last_report.jitter == 1, "another report")
        assert stage.gone == []
        await listener.send_rtcp(rtp.pack_bye(5, "listener"))
        await until(lambda: stage.gone == ["left"], "the goodbye")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_peer_that_does_not_connect_in_time_is_gone(answered: bool) -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.sender(stage.track), Client()
        stage._open += [peer, client.peer]
        peer.on_gone = stage.gone.append
        peer.connect_within(0.2)
        if answered:
            await peer.answer(await client.offer())
        await until(lambda: stage.gone == ["not connected in time"], "the deadline", 2)


async def test_the_deadline_stays_while_media_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        peer.on_gone = stage.gone.append
        connected: list[bool] = []
        peer.on_connected = lambda: connected.append(True)
        peer.connect_within(0.5)
        route = peer._ice.route
        monkeypatch.setattr(peer, "_route", lambda: None)
        peer._dtls_path._route = route
        await peer.accept(await client.answer(await peer.offer()))
        await until(lambda: stage.gone == ["not connected in time"], "the deadline", 3)
        assert connected == []
