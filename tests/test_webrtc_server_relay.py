"""The server as its clients see it: a second process, real sockets, aiortc at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.process import child_process
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender, wait_until_connected
from tests.support.server import DAEMON, RunningServer, running_server
from tests.support.signalling import Signalling, SignallingError, signalling
from tests.support.voice_pages import everyone_left

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING_STREAM = {"code": "no_stream", "message": "No audio stream available"}


def payloads(count: int, size: int = 60) -> list[bytes]:
    """Opus packets as far as a relay can tell: unlike each other, so that none can be taken for another."""
    return [os.urandom(size) for _ in range(count)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def server(daemon: RunningServer) -> AsyncIterator[RunningServer]:
    """The daemon that these tests share, with nobody there, neither before nor afterwards."""
    yield daemon
    await everyone_left(daemon)


async def go_live(server: RunningServer, sender: VoiceSender) -> str:
    """Sends a first packet, and returns the stream's id once it is announced."""
    await sender.send(payloads(1))
    return str((await sender.signalling.expect("stream_available"))["stream_id"])


async def get_json(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url, headers={"Accept": "application/json"}) as response:
        return await response.json()


async def states(server: RunningServer) -> list[str]:
    return [details["state"] for details in (await get_json(server.url("/stream/status")))["details"]]


async def test_every_packet_of_every_sender_reaches_every_receiver_in_order(server: RunningServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(voice_sender(server.ws_url, name=f"voice {n}")) for n in range(5)]
        for sender in senders:
            await go_live(server, sender)
        receivers: dict[int, list[VoiceReceiver]] = {}
        for number in range(5):
            joins = (stack.enter_async_context(voice_receiver(server.ws_url, f"voice {number}")) for _ in range(4))
            receivers[number] = [await join for join in joins]
        before = [len(sender.sent) for sender in senders]
        # Every seventh packet is missing, as with DTX.
        await asyncio.gather(
            *(sender.send([None if n % 7 == 6 else p for n, p in enumerate(payloads(50))]) for sender in senders)
        )
        for number, sender in enumerate(senders):
            expected = sender.sent[before[number] :]
            for receiver in receivers[number]:
                await receiver.packets.wait_for(len(expected))
                assert receiver.packets.payloads() == expected
                sequences = [packet.sequence for packet in receiver.packets]
                assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(sequences))]
                assert_timestamps_keep_pauses([packet.timestamp for packet in receiver.packets])


def assert_timestamps_keep_pauses(timestamps: list[int]) -> None:
    steps = [(after - before) & 0xFFFFFFFF for before, after in itertools.pairwise(timestamps)]
    assert set(steps) == {960, 1920}
    assert [index % 6 for index, step in enumerate(steps) if step == 1920] == [5] * steps.count(1920)


async def test_a_newcomer_is_told_the_streams_and_the_end_is_told_to_all(server: RunningServer) -> None:
    async with signalling(server.ws_url) as early:
        assert await early.expect("available_streams") == {"type": "available_streams", "streams": [], "details": []}
        async with voice_sender(server.ws_url, name="Küche 2") as sender:
            assert await go_live(server, sender) == "Küche 2"
            assert await early.expect("stream_available") == {
                "type": "stream_available",
                "stream_id": "Küche 2",
                "name": "Küche 2",
            }
            async with signalling(server.ws_url) as late:
                listed = await late.expect("available_streams")
            assert listed["streams"] == ["Küche 2"]
            details = listed["details"][0]
            assert abs(details.pop("started_at") - time.time()) < 60
            assert details == {
                "stream_id": "Küche 2",
                "name": "Küche 2",
                "receivers": 0,
                "listeners": 0,
                "state": "active",
                "paused": False,
                "via": "websocket",
            }
            await sender.stop()
            ended = await early.expect("stream_ended")
        assert ended == {"type": "stream_ended", "stream_id": "Küche 2", "reason": "sender left"}


async def test_a_stream_is_announced_with_its_first_packet_and_not_before(server: RunningServer) -> None:
    async with voice_sender(server.ws_url) as sender, signalling(server.ws_url) as watcher:
        await watcher.expect_none("stream_available")
        assert await states(server) == []
        with pytest.raises(AssertionError, match="No audio stream available"):
            async with voice_receiver(server.ws_url):
                pass
        assert await go_live(server, sender) == f"stream_{sender.connection_id}"
        await watcher.expect("stream_available")
        assert await states(server) == ["active"]


async def test_a_sender_may_stop_and_start_again_on_one_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client, signalling(server.ws_url) as watcher:
        sender = VoiceSender(client)
        for _ in range(3):
            await sender.start(name="garden")
            await go_live(server, sender)
            await watcher.expect("stream_available", stream_id="garden")
            await sender.stop()
            await watcher.expect("stream_ended", stream_id="garden", reason="sender left")
        assert await states(server) == []


async def test_a_receiver_may_switch_streams_on_one_socket(server: RunningServer) -> None:
    async with (
        voice_sender(server.ws_url, name="one") as one,
        voice_sender(server.ws_url, name="two") as two,
        signalling(server.ws_url) as client,
    ):
        await go_live(server, one)
        await go_live(server, two)
        receiver = VoiceReceiver(client)
        for stream_id, sender in (("one", one), ("two", two), (None, two), ("one", one)):
            await receiver.start(stream_id)
            begun = len(sender.sent)
            await asyncio.gather(one.send(payloads(5)), two.send(payloads(5)))
            await receiver.packets.wait_for(5)
            assert receiver.packets.payloads() == sender.sent[begun:]
        await receiver.peer.close()


async def test_two_quick_requests_for_one_stream_are_one_request(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender, signalling(server.ws_url) as client:
        await go_live(server, sender)
        await client.send("start_receiving", stream_id="kitchen")
        await client.send("start_receiving", stream_id="kitchen")
        await client.send("start_receiving")
        offer = (await client.expect("webrtc_offer"))["offer"]
        await client.expect_none("webrtc_offer")
        receiver = VoiceReceiver(client)
        await receiver.answer(offer)
        await wait_until_connected(receiver.peer)
        await sender.send(payloads(10))
        await receiver.packets.wait_for(5)
        await receiver.peer.close()


async def test_an_intercom_sends_on_one_socket_and_receives_on_another(server: RunningServer) -> None:
    async with (
        voice_sender(server.ws_url, name="hall") as hall,
        voice_sender(server.ws_url, name="attic") as attic,
    ):
        await go_live(server, hall)
        await go_live(server, attic)
        async with (
            voice_receiver(server.ws_url, "attic") as hears_attic,
            voice_receiver(server.ws_url, "hall") as hears_hall,
        ):
            await asyncio.gather(hall.send(payloads(10)), attic.send(payloads(10)))
            for receiver, sender in ((hears_attic, attic), (hears_hall, hall)):
                await receiver.packets.wait_for(10)
                assert receiver.packets.payloads() == sender.sent[-10:]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "bad_message"),
        ("[1, 2]", "bad_message"),
        ("null", "bad_message"),
        ("{}", "bad_message"),
        ('{"type": 7}', "bad_message"),
        ('{"type": "no_such_thing"}', "unknown_type"),
        ('{"type": "webrtc_offer"}', "bad_message"),
        ('{"type": "webrtc_offer", "offer": {"sdp": 5, "type": "offer"}}', "bad_message"),
        ('{"type": "webrtc_offer", "offer": {"sdp": "v=0", "type": "offer"}}', "unexpected_offer"),
        ('{"type": "webrtc_answer", "answer": {"sdp": "v=0", "type": "answer"}}', "unexpected_answer"),
        ('{"type": "ice_candidate", "candidate": {"candidate": "x"}}', "unexpected_candidate"),
        ('{"type": "start_receiving", "stream_id": "../../etc/passwd"}', "no_stream"),
        ('{"type": "start_receiving", "stream_id": "' + "x" * 1024 + '"}', "bad_message"),
        ('{"type": "start_sending", "name": "a/b"}', "bad_name"),
        ('{"type": "start_sending", "name": "latest"}', "bad_name"),
        ("[" * 100_000, "bad_message"),
    ],
)
async def test_a_bad_message_gets_an_error_and_changes_nothing(server: RunningServer, text: str, code: str) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            for client in (sender.signalling, receiver.signalling):
                if code == "unexpected_offer" and client is sender.signalling:
                    continue  # From a sender it is expected.
                if code == "unexpected_candidate":
                    continue  # Both have a connection that it could belong to.
                await client.socket.send_str(text)
                assert (await client.expect("error"))["code"] == code
            async with signalling(server.ws_url) as newcomer:
                await newcomer.socket.send_str(text)
                assert (await newcomer.expect("error"))["code"] == code
            await sender.send(payloads(5))
            await receiver.packets.wait_for(5)
            assert receiver.packets.payloads() == sender.sent[-5:]


async def test_an_offer_that_cannot_be_read_leaves_the_live_media_alone(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        for sdp, code in (
            ("garbage", "bad_sdp"),
            ("v=0\r\nm=audio x\r\n", "bad_sdp"),
            ("", "bad_sdp"),
            ("v=0\r\n", "no_opus"),
        ):
            await sender.signalling.send("webrtc_offer", offer={"type": "offer", "sdp": sdp})
            assert (await sender.signalling.expect("error"))["code"] == code
        async with voice_receiver(server.ws_url) as receiver:
            await sender.send(payloads(5))
            await receiver.packets.wait_for(5)


async def test_binary_frames_are_refused_and_oversized_ones_close_the_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        await client.socket.send_bytes(b"{}")
        assert (await client.expect("error"))["code"] == "bad_message"
        await client.socket.send_str(json.dumps({"type": "x" * (256 * 1024)}))
        assert await client.expect_close() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_one_connection_too_many_is_refused_before_the_upgrade() -> None:
    async with running_server({"server": {"max_connections": 2}}) as server:
        async with signalling(server.ws_url), signalling(server.ws_url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with signalling(server.ws_url):
                    pass
            assert refused.value.status == 503
            assert refused.value.headers is not None
            assert int(refused.value.headers["Retry-After"]) > 0
        async with signalling(server.ws_url) as again:
            await again.expect("available_streams")


async def test_the_index_is_a_page_and_a_signalling_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url.removesuffix("ws")) as client:
        await client.expect("available_streams")
    async with aiohttp.ClientSession() as http, http.get(server.url("/")) as response:
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_health_and_metrics_say_what_goes_on() -> None:
    async with running_server() as server, voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        async with voice_receiver(server.ws_url) as receiver:
            await sender.send(payloads(10))
            await receiver.packets.wait_for(10)
            health = await get_json(server.url("/health"))
            assert health["status"] == "ok"
            assert health["webrtc_available"] is True
            assert health["audio_server_running"] is True
            assert health["active_streams"] == 1
            assert health["connected_clients"] == 2
            assert health["uptime_seconds"] > 0
            figures = await get_json(server.url("/metrics"))
            assert figures["active_connections"] == 2
            assert figures["forwarded_packets"] == 10
            assert figures["total_audio_bytes"] == sum(map(len, sender.sent))
            assert figures["dropped_packets"] == 0
            assert figures["mp3_listeners"] == 0
            (details,) = (await get_json(server.url("/metrics?details=1")))["receiver_details"]
            assert details["stream_id"] == "kitchen"
            assert (details["packets_sent"], details["bytes_sent"]) == (10, sum(map(len, sender.sent[-10:])))
            async with aiohttp.ClientSession() as http:
                async with http.get(server.url("/metrics"), headers={"Accept": "text/plain"}) as response:
                    assert response.content_type == "text/plain"
                    assert "voice_streaming_forwarded_packets_total 10.0\n" in await response.text()
                async with http.get(server.audio_url("/health")) as response:
                    assert await response.text() == "OK"


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


async def test_a_sigterm_tells_everyone_and_ends_in_time() -> None:
    async with running_server() as server, contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(voice_sender(server.ws_url, name="kitchen"))
        await go_live(server, sender)
        receivers = [await stack.enter_async_context(voice_receiver(server.ws_url)) for _ in range(5)]
        begun_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in (sender.signalling, *(receiver.signalling for receiver in receivers)):
            await client.expect("stream_ended", stream_id="kitchen", reason="server stopping")
            assert await client.expect_close() == aiohttp.WSCloseCode.GOING_AWAY
        assert await server.process.wait(timeout_s=5) == 0
        assert time.monotonic() - begun_s < 3


async def test_the_server_answers_soon_after_its_start() -> None:
    took_s = []
    for _ in range(3):  # The best of three, as the machine may be busy with something else, such as its disk.
        async with running_server() as server:
            took_s.append(server.startup_s)
        if took_s[-1] < 2:
            return
    pytest.fail(f"first answers on /health after {took_s} s")


async def test_a_port_in_use_is_named(server: RunningServer) -> None:
    for option, port in (("--port", server.port), ("--audio-port", server.audio_port)):
        options = {"--port": str(free_port()), "--audio-port": str(free_port()), option: str(port)}
        arguments = [part for pair in options.items() for part in pair]
        environment = {**os.environ, "HOST": "127.0.0.1", "CONFIG": str(server.directory / "config.json")}
        async with child_process([sys.executable, DAEMON, *arguments], environment=environment) as process:
            assert await process.wait(timeout_s=15) == 1
            assert any(f"port {port} cannot be opened" in line and option in line for line in process.log)


async def test_a_wrong_setting_is_named(server: RunningServer) -> None:
    async with child_process([sys.executable, DAEMON, "--port", "70000"], environment={**os.environ}) as process:
        assert await process.wait(timeout_s=15) == 2
        assert process.log == ["error: command line: server.port is 70000: expected `int` <= 65535"]


async def test_the_demo_is_a_stream_like_any_other() -> None:
    async with running_server(arguments=["--demo"]) as server, voice_receiver(server.ws_url, "demo") as receiver:
        await receiver.packets.wait_for(25)
        steps = {b.sequence - a.sequence for a, b in itertools.pairwise(receiver.packets)}
        assert steps <= {1, -65535}


async def test_the_demo_is_the_servers_own_and_cannot_be_taken_over() -> None:
    async with running_server(arguments=["--demo"]) as server, voice_receiver(server.ws_url, "demo") as receiver:
        with pytest.raises(SignallingError, match="name_taken"):
            async with voice_sender(server.ws_url, name="demo") as sender:
                await sender.signalling.expect("stream_ended", timeout_s=1)
        heard = len(receiver.packets)
        await receiver.packets.wait_for(heard + 25)
        steps = {b.sequence - a.sequence for a, b in itertools.pairwise(receiver.packets)}
        assert steps <= {1, -65535}
        async with signalling(server.ws_url) as late:
            assert (await late.expect("available_streams"))["streams"] == ["demo"]


def cut(client: Signalling) -> None:
    """Ends the TCP connection as a killed process does: without WebSocket's closing handshake."""
    with socket.socket(fileno=os.dup(client.socket.get_extra_info("socket").fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
