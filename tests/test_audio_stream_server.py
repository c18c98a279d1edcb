"""The MP3 routes as players use them: what is answered, against the raw socket."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from tests.support.live_radio import Radio, radio_with
from tests.support.radio import mp3_frames
from tests.support.raw_http import raw_request, read_head

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
        for playlist, beside in ((f"{name}.m3u", f"{name}.mp3"), (f"{name}.ogg.m3u", f"{name}.ogg")):
            async with raw_request(radio.port, f"/stream/{playlist}{query}", "Connection: close") as answer:
                assert answer.status == 200
                assert answer.headers["content-type"] == "audio/x-mpegurl"
                lines = (await answer.body()).decode().splitlines()
            assert lines == ["#EXTM3U", f"#EXTINF:-1,{title}", f"http://127.0.0.1/stream/{beside}{query}"]


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
