"""The MP3 through the main port and HTTPS: the same handlers on a transport that encrypts."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.radio import mp3_frames
from tests.support.raw_http import read_head
from tests.support.server import RunningServer, running_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


def unverified() -> ssl.SSLContext:
    """Who the server is, test_tls.py proves."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def open_stream(port: int, receive_buffer: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(
        sock=connection, ssl=unverified(), server_hostname="127.0.0.1", limit=receive_buffer
    )
    writer.write(b"GET /stream/demo.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
    return reader, writer


async def figures(server: RunningServer) -> dict[str, float]:
    def read() -> dict[str, float]:
        with urllib.request.urlopen(server.url("/metrics")) as answer:
            found: dict[str, float] = json.load(answer)
            return found

    return await asyncio.to_thread(read)


async def test_streaming_and_a_listener_that_does_not_read_over_https(tmp_path: Path) -> None:
    tls_port = free_port()
    settings = {
        "server": {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path / "data")},
        "audio": {"bitrate_bps": 320_000, "max_backlog_s": 0.5},
    }
    async with running_server(settings, arguments=["--demo"]) as server:
        reader, writer = await open_stream(tls_port)
        answer = await read_head(reader)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert "transfer-encoding" not in answer.headers
        _, stalled = await open_stream(tls_port, receive_buffer=4096)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        async with answer.being_read() as audio, asyncio.timeout(30):
            while not (counted := await figures(server))["mp3_slow_listeners_disconnected_total"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            passed_s = loop.time() - begun_s
        assert counted["mp3_slow_listeners_disconnected_total"] == 1
        assert counted["mp3_listeners"] == 1
        assert len(mp3_frames(bytes(audio))) * 1152 / 44_100 > passed_s - 1
        stalled.transport.abort()
        writer.transport.abort()


def audio_after_a_pause(port: int, pause_s: float, then_s: float) -> tuple[bytes, float]:
    """What a player gets that reads nothing at first, and how long it was there. It blocks."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    with unverified().wrap_socket(connection, server_hostname="127.0.0.1") as tls:
        tls.sendall(b"GET /stream/demo.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
        begun_s = time.monotonic()
        received = tls.recv(1)
        time.sleep(pause_s)
        while time.monotonic() < begun_s + pause_s + then_s:
            received += tls.recv(65_536)
        return received.partition(b"\r\n\r\n")[2], time.monotonic() - begun_s


async def test_a_player_that_pauses_is_brought_back_to_live_over_https(tmp_path: Path) -> None:
    """TLS and the transport below it keep no more than a socket alone."""
    tls_port = free_port()
    settings = {
        "server": {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path / "data")},
        "audio": {"max_backlog_s": 30},
    }
    async with running_server(settings, arguments=["--demo"]) as server:
        audio, passed_s = await asyncio.to_thread(audio_after_a_pause, tls_port, 6, 4)
        counted = await figures(server)
    assert counted["mp3_slow_listeners_brought_back_total"] == 1
    assert counted["mp3_slow_listeners_disconnected_total"] == 0
    dropped_s = counted["mp3_slow_listeners_dropped_seconds_total"]
    assert dropped_s > 3
    assert len(mp3_frames(audio)) * 1152 / 44_100 + dropped_s == pytest.approx(passed_s + 0.5, abs=0.4)
