"""The MP3 routes as players use them: every case against the raw socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from tests.support.audio import Samples, encode_opus
from tests.support.live_radio import Radio, radio_with
from tests.support.radio import mp3_frames
from tests.support.raw_http import raw_request, read_head
from voice_streaming.config import AudioSettings, ServerSettings, Settings


@pytest.fixture(scope="module")
def payloads(speech: Samples) -> list[bytes]:
    return encode_opus(speech)


@pytest.fixture
async def radio(payloads: list[bytes]) -> AsyncIterator[Radio]:
    async with radio_with(payloads) as running:
        yield running


STREAM_HEADERS = {
    "content-type": "audio/mpeg",
    "connection": "close",
    "cache-control": "no-store",
    "accept-ranges": "none",
    "icy-br": "128",
    "icy-pub": "0",
    "icy-name": "kitchen",
    "access-control-allow-origin": "*",
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_is_whole_frames_without_length_or_chunks(radio: Radio, version: str) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3", version=version) as answer:
        assert answer.status_line == f"HTTP/{version} 200 OK"
        assert answer.headers == STREAM_HEADERS
        begun_s = asyncio.get_running_loop().time()
        audio = await answer.during(1.0)
        passed_s = asyncio.get_running_loop().time() - begun_s
    frames = mp3_frames(audio)
    assert len(frames[-1]) in (417, 418), "the last frame is cut off"
    # Half a second at once, and then as time passes.
    assert 0.6 < len(frames) * 1152 / 44_100 < passed_s + 0.7


async def test_a_newcomer_gets_half_a_second_at_once(radio: Radio) -> None:
    """Less what has passed since the last chunk: the newcomer gets that with all the others."""
    radio.speak()
    clock_started_s = time.monotonic()
    for path in ("/stream/latest.mp3", "/stream/kitchen.mp3"):
        async with raw_request(radio.port, path) as answer:
            first = await answer.reader.read(2**16)
            passed_frames = (time.monotonic() - clock_started_s) * 44_100 / 1152
        # 19 frames, less one at most on either side that is not whole at that moment.
        assert 17 - min(passed_frames, 7) <= len(mp3_frames(first)) <= 19


async def test_head_answers_like_get_and_is_no_listener(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3", method="HEAD") as answer:
        assert answer.status == 200
        assert answer.headers == STREAM_HEADERS
        assert await answer.body() == b""
    assert (stream.listeners, radio.server.listeners, radio.server.counters.listeners_total) == (0, 0, 0)
    assert radio.server.encoders == 0


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=100-", "bytes=0-100", "bytes=-5", "nonsense"])
async def test_other_ranges_are_answered_with_the_whole(radio: Radio, value: str) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3", f"Range: {value}") as answer:
        assert answer.status == 200
        assert "content-range" not in answer.headers
        mp3_frames(await answer.some(417))


async def test_safaris_probe_gets_two_bytes_and_is_no_listener(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3", "Range: bytes=0-1", "Connection: close") as answer:
        assert answer.status == 206
        assert answer.headers["content-length"] == "2"
        assert answer.headers["content-range"] == "bytes 0-1/*"
        assert answer.headers["content-type"] == "audio/mpeg"
        body = await answer.body()
        assert len(body) == 2
        assert body[0] == 0xFF
    assert radio.server.counters.listeners_total == 0


async def test_chunked_on_request_only(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3?chunked=1") as answer:
        assert answer.headers == STREAM_HEADERS | {"transfer-encoding": "chunked"}
        audio = b""
        while len(audio) < 20_000:
            length = int(await answer.reader.readline(), 16)
            audio += await answer.some(length)
            assert await answer.some(2) == b"\r\n"
    mp3_frames(audio)
    async with raw_request(radio.port, "/stream/kitchen.mp3?chunked=1", version="1.0") as answer:
        assert answer.headers == STREAM_HEADERS


async def test_chunked_stream_ends_with_the_last_chunk(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3?chunked=1") as answer:
        await answer.some(5000)
        radio.end(stream)
        assert (await answer.body()).endswith(b"\r\n0\r\n\r\n")


async def test_a_connection_that_asked_for_something_else_before_can_play(radio: Radio) -> None:
    radio.speak()
    reader, writer = await asyncio.open_connection("127.0.0.1", radio.port)
    try:
        writer.write(b"GET /stream/status HTTP/1.1\r\nHost: x\r\n\r\n")
        status = await read_head(reader)
        await status.some(int(status.headers["content-length"]))
        writer.write(b"GET /stream/kitchen.mp3 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        answer = await read_head(reader)
        assert answer.headers == STREAM_HEADERS
        mp3_frames(await answer.some(417))
    finally:
        writer.close()


@pytest.mark.parametrize("query", ["bitrate=64", "format=ogg", "follow=yes", "chunked=2"])
async def test_options_that_do_not_exist_are_refused(radio: Radio, query: str) -> None:
    radio.speak()
    async with raw_request(radio.port, f"/stream/latest.mp3?{query}") as answer:
        assert answer.status == 400
        assert query.split("=")[0] in (await answer.some(int(answer.headers["content-length"]))).decode()


async def test_unknown_options_are_left_alone(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3?authSig=x&_=123") as answer:
        assert answer.status == 200


async def test_a_stream_that_does_not_exist_is_not_found(radio: Radio) -> None:
    for method in ("GET", "HEAD"):
        async with raw_request(radio.port, "/stream/nobody.mp3", method=method) as answer:
            assert answer.status == 404
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_cors_as_configured(payloads: list[bytes]) -> None:
    async with radio_with(payloads, cors_origins=("https://home.example:8123",)) as radio:
        radio.speak()
        for origin, allowed in (("https://home.example:8123", True), ("https://other.example", False)):
            async with raw_request(radio.port, "/stream/latest.mp3", f"Origin: {origin}") as answer:
                assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
                assert answer.headers["vary"] == "Origin"


async def test_preflight(radio: Radio) -> None:
    lines = ("Origin: https://x.example", "Access-Control-Request-Method: GET")
    async with raw_request(radio.port, "/stream/latest.mp3", *lines, method="OPTIONS") as answer:
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Icy-MetaData" in answer.headers["access-control-allow-headers"]
        assert "HEAD" in answer.headers["access-control-allow-methods"]


async def read_metadata(answer_some: Any, interval: int) -> tuple[bytes, bytes]:
    """The audio up to a metadata block, and the block's text."""
    audio = await answer_some(interval)
    length = (await answer_some(1))[0] * 16
    return audio, await answer_some(length) if length else b""


async def read_until_title(answer_some: Any, interval: int) -> list[tuple[bytes, bytes]]:
    """Blocks up to the first one with a text; those before it were on their way."""
    blocks: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(20):
        while not blocks or not blocks[-1][1]:
            blocks.append(await read_metadata(answer_some, interval))
    return blocks


async def test_icy_metadata_exact_to_the_byte(payloads: list[bytes]) -> None:
    async with radio_with(payloads, bitrate_bps=320_000) as radio:
        first = radio.speak("one", "Küche")
        async with raw_request(radio.port, "/stream/latest.mp3", "Icy-MetaData: 1") as answer:
            assert answer.headers["icy-name"] == "Live voice"
            interval = int(answer.headers["icy-metaint"])
            blocks = [await read_metadata(answer.some, interval) for _ in range(3)]
            second = radio.speak("two", "O'Hara\r\n\x00; 台所")
            blocks += await read_until_title(answer.some, interval)
            blocks += [await read_metadata(answer.some, interval) for _ in range(2)]
            radio.end(second)
            radio.end(first)
            blocks += await read_until_title(answer.some, interval)
            blocks += [await read_metadata(answer.some, interval) for _ in range(2)]
    mp3_frames(b"".join(audio for audio, _ in blocks)[:-2000])
    titles = [text.rstrip(b"\0").decode() for _, text in blocks]
    assert titles[:3] == ["StreamTitle='Küche';", "", ""]
    assert [title for title in titles[3:] if title] == ["StreamTitle='O\u2019Hara ; 台所';", "StreamTitle='';"]


async def test_no_icy_metadata_unless_asked_for(radio: Radio) -> None:
    radio.speak()
    for line in ("Icy-MetaData: 0", "X: y"):
        async with raw_request(radio.port, "/stream/kitchen.mp3", line) as answer:
            assert "icy-metaint" not in answer.headers


async def test_a_name_cannot_break_the_header(radio: Radio) -> None:
    radio.speak("x", "Küche\r\nX-Evil: 1\r\n\r\n<b>\x7f\u2028台所")
    async with raw_request(radio.port, "/stream/x.mp3") as answer:
        assert answer.headers["icy-name"] == "Küche X-Evil: 1 <b> 台所"
        assert "x-evil" not in answer.headers
        mp3_frames(await answer.some(417))


async def test_a_browser_that_navigates_gets_the_waiting_page_only_while_nothing_is_live(radio: Radio) -> None:
    accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    async with raw_request(radio.port, "/stream/latest.mp3", accept, "Connection: close") as answer:
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<html" in await answer.body()
    async with raw_request(radio.port, "/stream/latest.mp3", "Accept: */*") as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3", accept) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"


async def test_status_and_what_the_waiting_page_needs(radio: Radio) -> None:
    stream = radio.speak("kitchen", "Kitchen")
    async with (
        ClientSession(f"http://127.0.0.1:{radio.port}") as http,
        raw_request(radio.port, "/stream/latest.mp3"),
        raw_request(radio.port, "/stream/kitchen.mp3"),
    ):
        async with http.get("/stream/status") as answer:
            assert await answer.json() == {
                "active_streams": ["kitchen"],
                "details": [msgspec.to_builtins(stream.details())],
                "audio_port": radio.port,
            }
        assert stream.details().listeners == 2
        for path in ("/health", "/static/style.css"):
            async with http.get(path) as answer:
                assert answer.status == 200


async def test_one_listener_too_many(payloads: list[bytes]) -> None:
    async with radio_with(payloads, max_listeners=1) as radio, raw_request(radio.port, "/stream/latest.mp3"):
        async with raw_request(radio.port, "/stream/latest.mp3") as answer:
            assert answer.status == 503
            assert "retry-after" in answer.headers
        async with raw_request(radio.port, "/stream/latest.mp3", method="HEAD") as answer:
            assert answer.status == 200


async def test_follow_0_waits_for_a_stream_and_ends_with_it(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.mp3?follow=0") as answer:
        await answer.some(8000)
        stream = radio.speak()
        await answer.some(8000)
        radio.end(stream)
        rest = await answer.body()
    mp3_frames(rest[rest.index(b"\xff\xfb") :])
    await radio.listeners_become(0)


async def test_a_player_that_leaves_is_counted_out(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3"):
        assert stream.listeners == 1
    await radio.listeners_become(0)
    assert stream.listeners == 0


async def test_listeners_that_do_not_read_are_disconnected_and_nobody_else_notices(payloads: list[bytes]) -> None:
    async with radio_with(payloads, bitrate_bps=320_000, max_backlog_s=0.5) as radio:
        radio.speak()
        stalled = []
        async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
            for _ in range(50):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", radio.port))
                connection.sendall(b"GET /stream/kitchen.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
                stalled.append(connection)
            await radio.listeners_become(51)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            async with answer.being_read() as audio:
                await radio.listeners_become(1, timeout_s=20)
                passed_s = loop.time() - begun_s
            assert radio.server.counters.disconnected_slow == 50
        assert len(mp3_frames(bytes(audio))) * 1152 / 44_100 > passed_s - 1
        for connection in stalled:
            connection.close()


async def test_a_thousand_that_connect_and_vanish_leave_nothing_behind(radio: Radio) -> None:
    radio.speak()
    tasks_before = len(asyncio.all_tasks())
    for _ in range(5):
        connections = [await asyncio.open_connection("127.0.0.1", radio.port) for _ in range(200)]
        for index, (reader, writer) in enumerate(connections):
            writer.write(b"GET /stream/latest.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
            if index % 3:
                await read_head(reader)
        for _, writer in connections:
            writer.transport.abort()
    await radio.listeners_become(0)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > tasks_before:  # noqa: ASYNC110 - nothing tells when a task is gone
            await asyncio.sleep(0.01)
    assert radio.server.counters.listeners_total >= 5 * 133


async def test_stop_lets_listeners_go_at_once(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3") as answer:
        await answer.some(417)
        async with asyncio.timeout(1):
            await radio.server.stop()
        with suppress(ConnectionResetError):
            await answer.body()
    assert not radio.server.is_running


async def test_figures(radio: Radio) -> None:
    begun_s = asyncio.get_running_loop().time()
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
        received = await answer.some(16_000)
        figures = radio.server.figures()
        passed_s = asyncio.get_running_loop().time() - begun_s
    assert figures["mp3_listeners"] == 1
    assert figures["mp3_encoders"] == 1
    assert figures["mp3_sent_bytes_total"] >= len(received)
    # Of the second that was received, half is the silence before the speech, which needs no encoder.
    assert 0.3 < figures["mp3_encoded_seconds_total"] < passed_s + 0.5
    assert 0 < figures["mp3_encoder_cpu_seconds_total"] < figures["mp3_encoded_seconds_total"]
    radio.end(stream)
    async with asyncio.timeout(5):
        while radio.server.figures()["mp3_concealed_packets_total"] != 1:  # noqa: ASYNC110 - it is a counter
            await asyncio.sleep(0.01)


async def test_a_port_in_use(radio: Radio, payloads: list[bytes]) -> None:
    settings = Settings(server=ServerSettings(host="127.0.0.1"), audio=AudioSettings(port=radio.port))
    with pytest.raises(OSError, match="in use"):
        await Radio(settings, payloads).server.start()
