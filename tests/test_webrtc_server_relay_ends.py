"""How streams end, wait and come back, as the server's clients see it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.support.faults import cut
from tests.support.live_streams import go_live, payloads, states
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING_STREAM = {"code": "no_stream", "message": "No audio stream available"}


@pytest.fixture
def server(emptied_daemon: RunningServer) -> RunningServer:
    return emptied_daemon


async def test_a_sender_that_is_cut_off_comes_back_to_its_stream(server: RunningServer) -> None:
    async with signalling(server.ws_url) as watcher, voice_sender(server.ws_url, name="kitchen") as first:
        await go_live(server, first)
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            await first.send(payloads(5))
            await receiver.packets.wait_for(5)
            cut(first.signalling)
            await watcher.expect("stream_paused", stream_id="kitchen", timeout_s=2)
            async with voice_sender(server.ws_url, name="kitchen") as second:
                await second.send(payloads(10))
                await watcher.expect("stream_resumed", stream_id="kitchen")
                await receiver.packets.wait_for(15)
                sequences = [packet.sequence for packet in receiver.packets]
                assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(15)]
                assert len({packet.ssrc for packet in receiver.packets}) == 1
                timestamps = [packet.timestamp for packet in receiver.packets]
                steps = [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(timestamps)]
                # The gap is as long in the timestamps as it was in time.
                gap_s = receiver.packets[5].arrived_s - receiver.packets[4].arrived_s
                assert abs(steps[4] / 48_000 - gap_s) < 0.1
                assert set(steps[:4] + steps[5:]) == {960}
            await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


async def test_a_sender_that_does_not_come_back_ends_its_stream_after_the_grace() -> None:
    async with running_server({"webrtc": {"resume_grace_s": 0.5}}) as server, signalling(server.ws_url) as watcher:
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await go_live(server, sender)
            cut(sender.signalling)
            await watcher.expect("stream_paused", stream_id="kitchen", timeout_s=2)
            await watcher.expect("stream_ended", stream_id="kitchen", reason="sender lost", timeout_s=3)
        async with signalling(server.ws_url) as late:
            await late.send("start_receiving", stream_id="kitchen")
            error = await late.expect("error")
            assert (error["code"], error["message"]) == ("stream_ended", "Stream ended")
            await late.send("start_receiving", stream_id="cellar")
            error = await late.expect("error")
            assert {"code": error["code"], "message": error["message"]} == MISSING_STREAM


async def test_a_second_sender_of_the_same_name_takes_over(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as first, signalling(server.ws_url) as watcher:
        await go_live(server, first)
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            await first.send(payloads(5))
            async with voice_sender(server.ws_url, name="kitchen", take_over=True) as second:
                await first.signalling.expect("stream_ended", stream_id="kitchen", reason="replaced")
                await second.send(payloads(5))
                await receiver.packets.wait_for(10)
                assert receiver.packets.payloads() == first.sent[-5:] + second.sent
                await watcher.expect_none("stream_ended")


async def test_a_sender_whose_stream_ends_while_it_connects_is_told(server: RunningServer) -> None:
    """Its packets would go nowhere. And who sent under the name before, and now listens, is left alone."""
    async with (
        voice_sender(server.ws_url, name="hall") as hall,
        voice_sender(server.ws_url, name="kitchen") as first,
        signalling(server.ws_url) as client,
    ):
        await go_live(server, hall)
        await go_live(server, first)
        second = VoiceSender(client)
        answer = await second.offer(name="kitchen", take_over=True)
        await first.stop()
        await client.expect("stream_ended", stream_id="kitchen")
        listener = VoiceReceiver(first.signalling)
        await listener.start("hall")
        await second.connect(answer)
        await client.expect("stream_ended", stream_id="kitchen", reason="sender left")
        await hall.send(payloads(5))
        await listener.packets.wait_for(5)
        assert await states(server) == ["active"]
        await second.start(name="kitchen")
        await go_live(server, second)
        await second.peer.close()
        await listener.peer.close()


async def test_a_sender_without_packets_and_without_a_name_is_given_up() -> None:
    settings = {"webrtc": {"media_timeout_s": 1, "resume_grace_s": 0.2}}
    async with running_server(settings) as server, voice_sender(server.ws_url) as sender:
        stream_id = await go_live(server, sender)
        assert (await sender.signalling.expect("error", timeout_s=6))["code"] == "connection_lost"
        await sender.signalling.expect("stream_ended", stream_id=stream_id, reason="sender lost")


async def test_a_sender_that_is_silent_but_there_pauses_its_named_stream_until_its_next_packet() -> None:
    settings = {"webrtc": {"media_timeout_s": 1, "resume_grace_s": 0.2}}
    async with running_server(settings) as server, voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            for _ in range(2):
                await sender.signalling.expect("stream_paused", stream_id="kitchen", timeout_s=6)
                # Longer than the grace that a lost sender has.
                await asyncio.sleep(0.5)
                await sender.signalling.expect_none("stream_ended")
                await sender.send(payloads(1))
                await sender.signalling.expect("stream_resumed", stream_id="kitchen")
            await receiver.packets.wait_for(2)
            assert receiver.packets.payloads() == sender.sent[-2:]


async def test_a_stream_that_nobody_takes_ends_as_idle() -> None:
    settings = {"server": {"cleanup_interval_s": 0.2, "idle_stream_timeout_s": 2.0}}
    async with running_server(settings) as server, voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        async with voice_receiver(server.ws_url, "kitchen"):
            await sender.send(payloads(50))
            await sender.signalling.expect_none("stream_ended")
        await sender.signalling.expect("stream_ended", stream_id="kitchen", reason="idle", timeout_s=10)
        assert await states(server) == []
