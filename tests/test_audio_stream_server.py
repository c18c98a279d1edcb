"""The MP3 routes as players use them: every case against the raw socket."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from tests.support.audio import Samples, encode_opus
from tests.support.live_radio import Radio, radio_with
from tests.support.radio import mp3_frames
from tests.support.raw_http import raw_request, read_head
from voice_streaming.settings.model import AccessSettings, AudioSettings, ServerSettings, Settings


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
    "vary": "Origin",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}


def without_date(headers: dict[str, str]) -> dict[str, str]:
    """Having checked that it is now."""
    date = parsedate_to_datetime(headers["date"])
    assert abs(date.timestamp() - time.time()) < 5
    return {name: value for name, value in headers.items() if name != "date"}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_is_whole_frames_without_length_or_chunks(radio: Radio, version: str) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3", version=version) as answer:
        assert answer.status_line == f"HTTP/{version} 200 OK"
        assert without_date(answer.headers) == STREAM_HEADERS
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
        assert without_date(answer.headers) == STREAM_HEADERS
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
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "audio/mpeg"
        body = await answer.body()
        assert len(body) == 2
        assert body[0] == 0xFF
    assert radio.server.counters.listeners_total == 0


async def test_chunked_on_request_only(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3?chunked=1") as answer:
        assert without_date(answer.headers) == STREAM_HEADERS | {"transfer-encoding": "chunked"}
        audio = b""
        while len(audio) < 20_000:
            length = int(await answer.reader.readline(), 16)
            audio += await answer.some(length)
            assert await answer.some(2) == b"\r\n"
    mp3_frames(audio)
    async with raw_request(radio.port, "/stream/kitchen.mp3?chunked=1", version="1.0") as answer:
        assert without_date(answer.headers) == STREAM_HEADERS


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
        assert without_date(answer.headers) == STREAM_HEADERS
        mp3_frames(await answer.some(417))
    finally:
        writer.close()


WRONG_QUERIES = [
    *("bitrate=64", "format=ogg", "follow=yes", "chunked=2", "burst=-1", "burst=10.5", "burst=1e1", "burst=inf"),
    *("burst=", "length=0", "length=86401", "length=nan", "listener=a%20b", "listener="),
]


@pytest.mark.parametrize("query", WRONG_QUERIES)
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


async def test_after_the_end_a_retry_is_not_found_at_once(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
        await answer.some(417)
        radio.end(stream)
        await answer.body()
    for path in ("/stream/kitchen.mp3", "/stream/kitchen.m3u"):
        async with raw_request(radio.port, path) as answer:
            assert answer.status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_unknown_paths_are_not_found(radio: Radio, method: str) -> None:
    for path in ("/stream/nothing", "/stream/", "/stream/a/b.mp3", "/stream/kitchen.ogg"):
        async with raw_request(radio.port, path, method=method) as answer:
            assert answer.status == 404, path


async def test_other_methods_are_not_allowed(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.mp3", method="POST") as answer:
        assert answer.status == 405
        assert set(answer.headers["allow"].split(",")) == {"GET", "HEAD", "OPTIONS"}


async def test_no_answer_tells_what_serves(radio: Radio) -> None:
    paths = ("/stream/status", "/stream/nothing", "/health", "/static/style.css", "/stream/latest.mp3", "not a path")
    for path in paths:
        async with raw_request(radio.port, path) as answer:
            assert not answer.headers.get("server", "").strip(), path
            assert "aiohttp" not in "".join(answer.header_lines)


async def test_pages_of_the_same_host_may_read_the_audio_and_others_not(radio: Radio) -> None:
    """`raw_request` asks for the host 127.0.0.1."""
    radio.speak()
    origins = {"http://127.0.0.1:8123": True, "https://127.0.0.1": True, "http://evil.example": False, "null": False}
    for path in ("/stream/latest.mp3", "/stream/kitchen.mp3", "/stream/status", "/stream/nobody.mp3"):
        for origin, allowed in origins.items():
            async with raw_request(radio.port, path, f"Origin: {origin}") as answer:
                assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None), path
                assert answer.headers["vary"] == "Origin"


async def test_pages_that_may_use_the_server_may_read_the_audio(payloads: list[bytes]) -> None:
    access = AccessSettings(allowed_origins=("https://home.example.org",))
    async with radio_with(payloads, access=access) as radio:
        for origin, allowed in (("https://home.example.org", True), ("https://evil.example.org", False)):
            async with raw_request(radio.port, "/stream/status", f"Origin: {origin}") as answer:
                assert ("access-control-allow-origin" in answer.headers) is allowed


async def test_cors_for_everybody(payloads: list[bytes]) -> None:
    async with (
        radio_with(payloads, cors_origins=("*",)) as radio,
        raw_request(radio.port, "/stream/status", "Origin: https://any.example") as answer,
    ):
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_cors_as_configured(payloads: list[bytes]) -> None:
    async with radio_with(payloads, cors_origins=("https://home.example:8123",)) as radio:
        radio.speak()
        for origin, allowed in (("https://home.example:8123", True), ("https://other.example", False)):
            async with raw_request(radio.port, "/stream/latest.mp3", f"Origin: {origin}") as answer:
                assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
                assert answer.headers["vary"] == "Origin"


async def test_preflight(radio: Radio) -> None:
    lines = ("Origin: http://127.0.0.1:8123", "Access-Control-Request-Method: GET")
    async with raw_request(radio.port, "/stream/latest.mp3", *lines, method="OPTIONS") as answer:
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:8123"
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


HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/stream/latest.mp3", "/stream/kitchen.mp3", "/stream/nobody.mp3"])
@pytest.mark.parametrize(
    "lines",
    [(HTML,), ("Sec-Fetch-Dest: document", "Accept: */*"), ("Sec-Fetch-Dest: iframe", HTML)],
)
async def test_a_browser_that_navigates_gets_the_page_live_or_not(
    radio: Radio, path: str, lines: tuple[str, ...]
) -> None:
    for _ in range(2):
        async with raw_request(radio.port, path, *lines, "Connection: close") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/html")
            assert answer.headers["cache-control"] == "no-store"
            assert b"<html" in await answer.body()
        radio.speak()
    assert radio.server.counters.listeners_total == 0


@pytest.mark.parametrize("lines", [("Accept: */*",), (), ("Sec-Fetch-Dest: audio", HTML), ("Sec-Fetch-Dest: empty",)])
async def test_players_and_audio_elements_get_the_mp3(radio: Radio, lines: tuple[str, ...]) -> None:
    radio.speak()
    for path in ("/stream/latest.mp3", "/stream/kitchen.mp3"):
        async with raw_request(radio.port, path, *lines) as answer:
            assert answer.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("burst_s", [0, 0.25, 3, 10])
async def test_a_player_gets_the_burst_that_it_asks_for(radio: Radio, burst_s: float) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3") as other:
        await other.some(30_000)
        begun_s = time.monotonic()
        async with raw_request(radio.port, f"/stream/kitchen.mp3?burst={burst_s}") as answer:
            audio = await answer.during(0.5)
            passed_s = time.monotonic() - begun_s
    seconds = len(audio) / 16_000
    assert burst_s - 0.03 <= seconds <= burst_s + passed_s + 0.2


async def test_an_answer_with_a_length_ends_with_it(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3?length=1") as answer:
        assert without_date(answer.headers) == STREAM_HEADERS | {"content-length": "16000"}
        assert len(await answer.body()) == 16_000
    async with raw_request(radio.port, "/stream/kitchen.mp3?length=1", method="HEAD") as answer:
        assert answer.headers["content-length"] == "16000"
    async with raw_request(radio.port, "/stream/kitchen.mp3?length=1&chunked=1") as answer:
        assert answer.status == 400
    async with raw_request(radio.port, "/stream/kitchen.mp3?length=2", "Icy-MetaData: 1") as answer:
        body = await answer.body()
    assert len(body) == 32_000
    assert body[16_001:].startswith(b"StreamTitle='kitchen'")


async def test_dlna_is_answered_when_asked_for(radio: Radio) -> None:
    radio.speak()
    lines = ("transferMode.dlna.org: Streaming", "getcontentFeatures.dlna.org: 1")
    for method in ("GET", "HEAD"):
        async with raw_request(radio.port, "/stream/kitchen.mp3", *lines, method=method) as answer:
            assert answer.headers["transfermode.dlna.org"] == "Streaming"
            features = dict(part.split("=") for part in answer.headers["contentfeatures.dlna.org"].split(";"))
    assert (features["DLNA.ORG_PN"], features["DLNA.ORG_OP"]) == ("MP3", "00")
    assert re.fullmatch("[0-9A-F]{8}0{24}", features["DLNA.ORG_FLAGS"])


@pytest.mark.parametrize("query", ["", "?follow=0&token=a%2Bb"])
async def test_playlists_hold_the_whole_address(radio: Radio, query: str) -> None:
    radio.speak("kitchen", "Küche")
    for name, title in (("latest", "Live voice"), ("kitchen", "Küche")):
        async with raw_request(radio.port, f"/stream/{name}.m3u{query}", "Connection: close") as answer:
            assert answer.status == 200
            assert answer.headers["content-type"] == "audio/x-mpegurl"
            lines = (await answer.body()).decode().splitlines()
        assert lines == ["#EXTM3U", f"#EXTINF:-1,{title}", f"http://127.0.0.1/stream/{name}.mp3{query}"]


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
                "port": 8080,
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


async def position(radio: Radio, played_s: float) -> float:
    path = f"/stream/position?listener=x&played={played_s:.3f}"
    async with raw_request(radio.port, path, "Connection: close") as answer:
        assert answer.status == 200
        return float(json.loads(await answer.body())["behind_s"])


def seconds_of(audio: bytes) -> float:
    return len(audio) / 16_000


async def test_a_listener_learns_how_far_behind_live_it_is(radio: Radio) -> None:
    radio.speak()
    for path in ("/stream/latest.mp3?listener=x", "/stream/kitchen.mp3?burst=3&listener=x"):
        async with raw_request(radio.port, path) as answer:
            burst_s = 3.0 if "burst" in path else 0.5
            assert await position(radio, 0) == pytest.approx(burst_s, abs=0.1)
            joined_s = time.monotonic()
            audio = await answer.during(1.5)
            begun_s = time.monotonic()
            behind_s = await position(radio, 1)
            assert behind_s == pytest.approx(burst_s + begun_s - joined_s - 1, abs=0.2)
            assert await position(radio, 1) - behind_s == pytest.approx(time.monotonic() - begun_s, abs=0.05)
            # What came last is live, but for the chunk that is due next.
            assert -0.05 < await position(radio, seconds_of(audio)) < 0.4


@pytest.mark.parametrize(
    ("query", "status"),
    [("listener=y&played=1", 404), ("listener=x", 400), ("played=1", 400), ("listener=x&played=-1", 400), ("", 400)],
)
async def test_a_position_that_nobody_has(radio: Radio, query: str, status: int) -> None:
    async with raw_request(radio.port, "/stream/latest.mp3?listener=x"):
        lines = ("Origin: http://127.0.0.1:8080",)
        async with raw_request(radio.port, f"/stream/position?{query}", *lines) as answer:
            assert answer.status == status
            assert "access-control-allow-origin" in answer.headers
    await radio.listeners_become(0)
    async with raw_request(radio.port, "/stream/position?listener=x&played=1") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("icy", [False, True])
async def test_a_player_that_pauses_is_brought_back_to_live(payloads: list[bytes], icy: bool) -> None:
    async with radio_with(payloads, max_backlog_s=30) as radio:
        radio.speak()
        begun_s = time.monotonic()
        lines = ("Icy-MetaData: 1",) if icy else ()
        path = "/stream/kitchen.mp3?listener=x"
        async with raw_request(radio.port, path, *lines, receive_buffer=4096) as answer:
            await asyncio.sleep(6)
            received = await answer.during(4)
            counters = radio.server.counters
            audio = without_metadata(received) if icy else received
            frames = mp3_frames(audio)
            passed_s = time.monotonic() - begun_s
            dropped_s = counters.dropped_frames * 1152 / 44_100
            assert counters.brought_back == 1
            assert counters.disconnected_slow == 0
            # Of six seconds and the burst, two were kept for it, and what is on its own side.
            assert dropped_s > 3
            assert len(frames) * 1152 / 44_100 + dropped_s == pytest.approx(passed_s + 0.5, abs=0.4)
            assert await position(radio, seconds_of(audio)) < 0.5
            figures = radio.server.figures()
    assert figures["mp3_slow_listeners_brought_back_total"] == 1
    assert figures["mp3_slow_listeners_dropped_seconds_total"] == pytest.approx(dropped_s, abs=0.001)


def without_metadata(received: bytes) -> bytes:
    audio, position = b"", 0
    while position + 16_000 < len(received):
        audio += received[position : position + 16_000]
        position += 16_000 + 1 + 16 * received[position + 16_000]
    return audio + received[position:]


async def test_a_short_hold_up_costs_nothing(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3", receive_buffer=4096) as answer:
        await asyncio.sleep(1.2)
        mp3_frames(await answer.during(1.5))
    assert radio.server.counters.dropped_frames == 0


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
