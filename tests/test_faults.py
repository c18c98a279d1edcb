"""Clients that vanish, stall, crowd or come back, and a server that is stopped or whose parts fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support import clock_set_back
from tests.support.faults import cut, make_deaf, sequence_steps
from tests.support.namespaces import other_machine
from tests.support.ports import free_port
from tests.support.process import ChildProcess
from tests.support.rtc_client import PacketLog, VoiceReceiver, voice_receiver, voice_sender
from tests.support.server import REPOSITORY, RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.speaker import speaker
from voice_streaming.process import failures, tasks
from voice_streaming.settings.model import AudioSettings, ServerSettings, Settings
from webrtc_server_relay import VoiceStreamingServer

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

UNLIMITED_MESSAGES = {"messages_per_s": 10_000, "message_burst": 100_000}
IMPATIENT = {
    "limits": UNLIMITED_MESSAGES,
    "webrtc": {"media_timeout_s": 1, "resume_grace_s": 60, "consent_timeout_s": 6},
    "audio": {"encoder_linger_s": 0},
}
NOTICED_S = 6
"""`media_timeout_s`, then up to 2.5 s until the server looks, and time for a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon() -> AsyncIterator[RunningServer]:
    async with running_server(IMPATIENT, arguments=["--demo"]) as server:
        yield server
        assert not any("Traceback" in line for line in server.log)


async def get_json(server: RunningServer, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(server.url(path), headers={"Accept": "*/*"}) as response:
        return await response.json()


async def poll(server: RunningServer, path: str, wanted: Callable[[Any], bool], *, timeout_s: float = 10) -> Any:
    """Asks again and again until the answer is as wanted."""
    async with asyncio.timeout(timeout_s):
        while not wanted(answer := await get_json(server, path)):  # noqa: ASYNC110 - nothing tells when it changes
            await asyncio.sleep(0.05)
    return answer


async def hear(packets: PacketLog, process: ChildProcess) -> None:
    """Waits until something comes that this process said, and more of it."""
    heard = 0
    async with asyncio.timeout(10):
        while heard < 5:
            await packets.wait_for(len(packets) + 1)
            heard += packets[-1].payload[8:] == process.pid.to_bytes(8, "big")


def assert_one_timeline(receiver: VoiceReceiver, *, with_loss: bool = False) -> None:
    """No renegotiation, and no number missing but of packets that were lost: to its jitter buffer it is one sender."""
    assert len({packet.ssrc for packet in receiver.packets}) == 1
    steps = sequence_steps([packet.sequence for packet in receiver.packets])
    assert steps == (sorted(set(steps)) if with_loss else list(range(len(steps))))
    offers = [message for message in receiver.signalling.history if message["type"] == "webrtc_offer"]
    assert len(offers) == 1


# Senders that vanish


@pytest.mark.parametrize("ending", ["killed", "asleep"])
async def test_a_sender_whose_process_stops_is_missed_and_may_come_back(daemon: RunningServer, ending: str) -> None:
    """Killed, or as a laptop whose lid is closed: its sockets stay open, and nothing comes from them."""
    name = f"laptop {ending}"
    async with signalling(daemon.ws_url) as watcher, speaker(daemon.ws_url, name) as first:
        await watcher.expect("stream_available", stream_id=name)
        async with voice_receiver(daemon.ws_url, name) as receiver:
            await hear(receiver.packets, first)
            first.send_signal(signal.SIGKILL if ending == "killed" else signal.SIGSTOP)
            await watcher.expect("stream_paused", stream_id=name, timeout_s=NOTICED_S)
            if ending == "killed":
                async with speaker(daemon.ws_url, name) as second:
                    await watcher.expect("stream_resumed", stream_id=name)
                    await hear(receiver.packets, second)
            else:
                first.send_signal(signal.SIGCONT)
                await watcher.expect("stream_resumed", stream_id=name)
                await hear(receiver.packets, first)
            assert_one_timeline(receiver)


async def test_a_sender_whose_cable_is_pulled_is_missed_and_comes_back() -> None:
    async with (
        other_machine() as machine,
        running_server(IMPATIENT, host=machine.here) as server,
        signalling(server.ws_url) as watcher,
        speaker(server.ws_url, "far", namespace=machine.name, address=machine.there) as sender,
    ):
        await watcher.expect("stream_available", stream_id="far")
        receiver = VoiceReceiver(watcher, machine.here)
        await receiver.start("far")
        await hear(receiver.packets, sender)
        await machine.pull_cable()
        await watcher.expect("stream_paused", stream_id="far", timeout_s=NOTICED_S)
        await machine.plug_cable()
        await watcher.expect("stream_resumed", stream_id="far", timeout_s=30)
        await hear(receiver.packets, sender)
        assert_one_timeline(receiver, with_loss=True)
        await receiver.peer.close()


# Receivers that vanish, stall, come and go


async def test_a_receiver_that_falls_silent_costs_nothing_after_a_while(daemon: RunningServer) -> None:
    async with voice_receiver(daemon.ws_url, "demo") as healthy, voice_receiver(daemon.ws_url, "demo") as lost:
        await lost.packets.wait_for(5)
        make_deaf(lost.peer)
        assert (await get_json(daemon, "/metrics"))["receivers"] == 2
        assert (await lost.signalling.expect("error", timeout_s=20))["code"] == "connection_lost"
        assert (await get_json(daemon, "/metrics"))["receivers"] == 1
        await healthy.packets.wait_for(len(healthy.packets) + 10)
        assert_one_timeline(healthy)
        assert all(message["type"] != "error" for message in healthy.signalling.history)


async def visit(server: RunningServer, kind: str) -> None:
    """One client that comes and goes."""
    if kind == "player":
        async with aiohttp.ClientSession() as http, http.get(server.audio_url("/stream/demo.mp3")) as response:
            await response.content.readexactly(1000)
        return
    if kind == "sender":
        async with voice_sender(server.ws_url) as sender:
            await sender.send([b"hello"])
        return
    async with signalling(server.ws_url) as client:
        if kind == "visitor":
            return
        if kind == "watcher":
            await client.send("subscribe_visualization", stream_id="demo")
            await client.expect("audio_data")
            return
        if kind == "undecided receiver":
            await client.send("start_receiving", stream_id="demo")
            await client.expect("webrtc_offer")
            return
        receiver = VoiceReceiver(client)
        await receiver.start("demo")
        await receiver.packets.wait_for(1)
        if kind == "receiver that is cut off":
            cut(client)
        elif kind == "receiver that stops":
            await receiver.stop()
            await client.send("get_available_streams")
        await receiver.peer.close()


LIGHT_VISITS = ("player", "visitor", "watcher", "undecided receiver")
HEAVY_VISITS = ("sender", "receiver", "receiver that is cut off", "receiver that stops")
COUNTED = ("tasks", "open_files", "active_connections", "active_streams", "receivers")
POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Up to so many, asyncio's thread pool grows with what is asked of it at once (concurrent.futures' default)."""


LASTS_AS_VISITS = ("active_connections", "receivers", "mp3_listeners", "mp3_encoders")
"""What there is only while somebody visits, or a moment longer."""


def counts(figures: dict[str, int]) -> dict[str, int]:
    return {name: figures[name] for name in COUNTED}


def left_over(figures: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What there is more of than before. Less of it is nothing left over: something of `before` was about to end."""
    return {name: more for name, count in counts(figures).items() if (more := count - before[name]) > 0}


@pytest.mark.timeout(120)
async def test_after_hundreds_of_visits_everything_is_as_before() -> None:
    async with running_server(IMPATIENT, arguments=["--demo"]) as server:
        await visit_hundreds_of_times(server)


async def visit_hundreds_of_times(daemon: RunningServer) -> None:
    for kind in LIGHT_VISITS + HEAVY_VISITS:
        await visit(daemon, kind)
    figures = await poll(daemon, "/metrics", lambda figures: not any(figures[name] for name in LASTS_AS_VISITS))
    before, threads = counts(figures), figures["threads"]
    visits = [*LIGHT_VISITS * 50, *HEAVY_VISITS * 15]
    for start in range(0, len(visits), 5):
        await asyncio.gather(*(visit(daemon, kind) for kind in visits[start : start + 5]))
    with contextlib.suppress(TimeoutError):
        await poll(daemon, "/metrics", lambda figures: not left_over(figures, before))
    figures = await get_json(daemon, "/metrics")
    assert not left_over(figures, before)
    assert figures["active_streams"] == before["active_streams"]
    assert figures["threads"] <= threads + POOL_THREADS


_QUESTION = b'{"type":"get_available_streams"}'
QUESTION_FRAME = bytes([0x81, 0x80 | len(_QUESTION), 0, 0, 0, 0]) + _QUESTION
"""Masked with zeros (RFC 6455 section 5.3)."""


@asynccontextmanager
async def unread_socket(server: RunningServer) -> AsyncIterator[asyncio.StreamWriter]:
    """A WebSocket whose client reads next to nothing and answers no frame."""
    thin = socket.socket()
    thin.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    thin.setblocking(False)
    await asyncio.get_running_loop().sock_connect(thin, ("127.0.0.1", server.port))
    _, writer = await asyncio.open_connection(sock=thin, limit=1024)
    request = ["GET /ws HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Connection: Upgrade", "Upgrade: websocket"]
    request += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    writer.write("\r\n".join(request).encode())
    await writer.drain()
    try:
        yield writer
    finally:
        writer.transport.abort()


async def test_a_client_that_asks_a_lot_at_once_and_reads_gets_all_answers(daemon: RunningServer) -> None:
    async with signalling(daemon.ws_url) as client:
        for _ in range(100):
            await client.send("get_available_streams")
        for _ in range(101):
            await client.expect("available_streams")


async def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(daemon: RunningServer) -> None:
    dropped = (await get_json(daemon, "/metrics"))["slow_websockets_closed"]
    async with unread_socket(daemon) as writer, signalling(daemon.ws_url) as watcher:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                while True:
                    # As many of each: they are answered by turns, and a crowd that waits would be cut off as a flood.
                    writer.write(QUESTION_FRAME * 50)
                    await writer.drain()
                    for _ in range(50):
                        await watcher.send("get_available_streams")
                    for _ in range(50):
                        await watcher.expect("available_streams")
    await poll(daemon, "/metrics", lambda figures: figures["slow_websockets_closed"] == dropped + 1)


# The server itself


async def test_a_second_sigterm_ends_it_at_once() -> None:
    settings = {"server": {"shutdown_timeout_s": 60}}
    async with running_server(settings, expected_exit_code=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        # An offer that is announced and does not come: its request is under way, and stopping waits for it.
        head = [f"POST /whip/kitchen HTTP/1.1\r\nHost: 127.0.0.1:{server.port}", "Content-Type: application/sdp"]
        head += ["Content-Length: 1000", "Expect: 100-continue", "", ""]
        writer.write("\r\n".join(head).encode())
        assert b" 100 " in await reader.readline()
        server.process.send_signal(signal.SIGTERM)
        await server.process.wait_for_log("Stopping")
        assert server.process.exit_code is None
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait(timeout_s=5) == 1
        writer.close()


async def test_after_a_kill_a_sender_is_back_by_itself_under_its_name() -> None:
    ports = free_port(), free_port()
    async with (
        running_server(IMPATIENT, ports=ports, expected_exit_code=-signal.SIGKILL) as server,
        speaker(server.ws_url, "kitchen") as sender,
    ):
        async with voice_receiver(server.ws_url, await stream_of(server, "kitchen")) as receiver:
            await hear(receiver.packets, sender)
        server.process.send_signal(signal.SIGKILL)
        assert await server.process.wait(timeout_s=5) == -signal.SIGKILL
        async with running_server(IMPATIENT, ports=ports) as again:
            receiving = voice_receiver(again.ws_url, await stream_of(again, "kitchen"))
            async with receiving as receiver:
                await hear(receiver.packets, sender)


async def stream_of(server: RunningServer, name: str) -> str:
    """Waits until the stream is live."""
    await poll(server, "/stream/status", lambda status: name in status["active_streams"])
    return name


async def test_a_clock_that_is_set_back_changes_nothing() -> None:
    program = REPOSITORY / "tests" / "support" / "clock_set_back.py"
    settings = {**IMPATIENT, "server": {"cleanup_interval_s": 0.2, "idle_stream_timeout_s": 60}}
    async with (
        running_server(settings, program=program) as server,
        signalling(server.ws_url) as watcher,
        speaker(server.ws_url, "kitchen") as first,
    ):
        async with voice_receiver(server.ws_url, await stream_of(server, "kitchen")) as receiver:
            await hear(receiver.packets, first)
            uptime_s = (await get_json(server, "/health"))["uptime_seconds"]
            server.process.send_signal(signal.SIGUSR1)
            await server.process.wait_for_log(clock_set_back.SAID)
            await hear(receiver.packets, first)
            first.send_signal(signal.SIGSTOP)
            await watcher.expect("stream_paused", stream_id="kitchen", timeout_s=NOTICED_S)
            first.send_signal(signal.SIGCONT)
            await watcher.expect("stream_resumed", stream_id="kitchen")
            await hear(receiver.packets, first)
            assert_one_timeline(receiver)
        async with speaker(server.ws_url, "later") as second:
            await stream_of(server, "later")
            # The newest, though the clock says that it is an hour older.
            async with voice_receiver(server.ws_url) as receiver:
                await hear(receiver.packets, second)
        assert (await get_json(server, "/health"))["uptime_seconds"] > uptime_s
        assert not [message for message in watcher.history if message["type"] == "stream_ended"]


async def test_a_background_task_that_dies_is_told_in_health_and_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(tasks, "RESTART_DELAY_S", 0.3)
    monkeypatch.setattr(failures, "RECOVERY_S", 0.6)
    settings = Settings(
        server=ServerSettings(
            host="127.0.0.1", port=free_port(), tls="off", data_dir=str(tmp_path), cleanup_interval_s=0.05
        ),
        audio=AudioSettings(port=free_port()),
    )
    server = VoiceStreamingServer(settings)
    rounds: list[float] = []

    def end_stale(idle_timeout_s: float) -> None:
        rounds.append(idle_timeout_s)
        if len(rounds) == 1:
            raise ZeroDivisionError("by design")

    monkeypatch.setattr(server.streams, "end_stale", end_stale)
    await server.start()
    try:
        degraded = await health_when(settings, "degraded")
        assert degraded["problems"] == {"cleanup-stale-streams": "ZeroDivisionError('by design')"}
        recovered = await health_when(settings, "ok")
        assert recovered["problems"] == {}
        assert len(rounds) > 1
    finally:
        await server.stop()
    assert [record.levelname for record in caplog.records if "cleanup-stale-streams" in record.getMessage()] == [
        "ERROR"
    ]


async def test_health_answers_once_every_other_port_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(
        server=ServerSettings(host="127.0.0.1", port=free_port(), tls="off", data_dir=str(tmp_path)),
        audio=AudioSettings(port=free_port()),
    )
    server = VoiceStreamingServer(settings)
    open_audio_port = server.audio_server.start

    async def look_at_the_signalling_port_first() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", settings.server.port)
        await open_audio_port()

    monkeypatch.setattr(server.audio_server, "start", look_at_the_signalling_port_first)
    await server.start()
    try:
        assert (await health_when(settings, "ok"))["audio_server_running"] is True
    finally:
        await server.stop()


async def health_when(settings: Settings, status: str) -> dict[str, Any]:
    """Asks until /health has that status."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"http://127.0.0.1:{settings.server.port}/health") as response:
                health: dict[str, Any] = await response.json()
            if health["status"] == status:
                return health
            await asyncio.sleep(0.02)
