"""The Ogg routes as players use them: what is answered, against the raw socket."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession

from tests.support.live_radio import Radio, radio_with
from tests.support.ogg import read_ogg_opus, read_pages
from tests.support.raw_http import raw_request
from tests.test_audio_stream_server import without_date
from voice_streaming.settings.model import AccessSettings, TokenSettings

OGG_HEADERS = {
    "content-type": "audio/ogg; codecs=opus",
    "connection": "close",
    "cache-control": "no-store",
    "accept-ranges": "none",
    "icy-pub": "0",
    "icy-name": "kitchen",
    "vary": "Origin",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_is_whole_pages_without_length_or_chunks(radio: Radio, version: str) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.ogg", "Icy-MetaData: 1", version=version) as answer:
        assert answer.status_line == f"HTTP/{version} 200 OK"
        assert without_date(answer.headers) == OGG_HEADERS
        audio = await answer.some(12_000)
        assert (stream.listeners, radio.server.listeners, radio.server.encoders) == (1, 1, 0)
        radio.end(stream)
        pages = read_ogg_opus(audio + await answer.body(), joined=True)
    assert pages[-1].flags == 4


async def test_latest_plays_silence_until_somebody_speaks_and_goes_on(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.ogg") as answer:
        assert answer.headers["icy-name"] == "Live voice"
        async with answer.being_read() as received:
            for _ in range(2):
                stream = radio.speak()
                assert stream.listeners == 1
                length = len(received) + 10_000
                async with asyncio.timeout(20):
                    while len(received) < length:  # noqa: ASYNC110 - a bytearray has no event
                        await asyncio.sleep(0.02)
                radio.end(stream)
            data = bytes(received)
    read_ogg_opus(data, cut=True, joined=True)


async def test_head_answers_like_get_and_is_no_listener(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.ogg", method="HEAD") as answer:
        assert answer.status == 200
        assert without_date(answer.headers) == OGG_HEADERS
        assert await answer.body() == b""
    assert (stream.listeners, radio.server.listeners) == (0, 0)
    assert radio.server.figures()["ogg_muxers"] == 0


async def test_a_range_probe_is_answered_as_for_the_mp3(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.ogg", "Range: bytes=0-1") as answer:
        assert (answer.status, await answer.some(2)) == (206, b"Og")


async def test_chunked_on_request_only(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.ogg?chunked=1&burst=2") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        length = int(await answer.reader.readline(), 16)
        pages = read_pages(await answer.some(length))
        assert sum(page.ticks for page in pages[2:]) >= 1.7 * 48_000
        radio.end(stream)
        assert (await answer.body()).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("query", ["burst=11", "length=3600", "bitrate=64", "follow=2"])
async def test_what_is_not_possible_is_refused(radio: Radio, query: str) -> None:
    async with raw_request(radio.port, f"/stream/latest.ogg?{query}") as answer:
        assert answer.status == 400


async def test_a_stream_that_is_not_live_is_404(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/nobody.ogg") as answer:
        assert answer.status == 404


async def test_listeners_of_both_formats_count_together(payloads: list[bytes]) -> None:
    async with radio_with(payloads, max_listeners=2) as radio:
        stream = radio.speak()
        async with (
            raw_request(radio.port, "/stream/kitchen.ogg") as ogg,
            raw_request(radio.port, "/stream/kitchen.mp3") as mp3,
        ):
            await ogg.some(100)
            await mp3.some(100)
            assert (stream.listeners, radio.server.listeners) == (2, 2)
            figures = radio.server.figures()
            assert (figures["ogg_listeners"], figures["mp3_listeners"]) == (1, 1)
            async with raw_request(radio.port, "/stream/latest.ogg") as answer:
                assert answer.status == 503
        await radio.listeners_become(0)
        assert stream.listeners == 0


async def test_tokens_and_cors_are_those_of_the_mp3(payloads: list[bytes]) -> None:
    token = TokenSettings("0123456789abcdef", ("receive",), ("kitchen",))
    async with radio_with(payloads, AccessSettings(tokens=(token,)), cors_origins=("https://page.example",)) as radio:
        radio.speak()
        radio.speak("hall", "hall")
        for path, status in (
            ("/stream/kitchen.ogg", 401),
            ("/stream/latest.ogg", 401),
            ("/stream/hall.ogg?token=0123456789abcdef", 403),
            ("/stream/kitchen.ogg?token=0123456789abcdef", 200),
            ("/stream/latest.ogg?token=0123456789abcdef", 200),
        ):
            async with raw_request(radio.port, path, "Origin: https://page.example") as answer:
                assert answer.status == status, path
                assert answer.headers["access-control-allow-origin"] == "https://page.example"


async def test_a_host_that_is_not_ours_is_refused(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.ogg", host="attacker.example") as answer:
        assert answer.status in (400, 403, 421)


async def test_a_navigation_is_sent_to_the_player_page(radio: Radio) -> None:
    """Which is at the MP3's address; `<audio>` is no navigation."""
    radio.speak("my voice", "my voice")
    for path, beside in (
        ("latest.ogg?token=x", "latest.mp3?token=x"),
        ("my%20voice.ogg", "my%20voice.mp3"),
    ):
        async with raw_request(radio.port, f"/stream/{path}", "Sec-Fetch-Dest: document") as answer:
            assert (answer.status, answer.headers["location"]) == (302, beside)
    async with raw_request(radio.port, "/stream/latest.ogg", "Sec-Fetch-Dest: audio", "Accept: */*") as answer:
        assert answer.status == 200


async def test_position_tells_how_far_behind_an_ogg_is(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.ogg?listener=me&burst=1") as answer:
        pages = read_pages(await answer.some(8000 + 2048), cut=True)
        played_s = sum(page.ticks for page in pages[2:]) / 48_000 - 0.08
        address = f"http://127.0.0.1:{radio.port}/stream/position?listener=me&played={played_s:.3f}"
        async with ClientSession() as http, http.get(address) as told:
            assert 0 <= (await told.json())["behind_s"] < 2


async def test_stopping_the_server_ends_every_ogg(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.ogg") as answer:
        await answer.some(100)
        await radio.server.stop()
        await answer.body()
