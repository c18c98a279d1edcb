"""The MP3 routes: what is refused, what no answer tells, and which pages may read what is answered."""

from __future__ import annotations

import pytest

from tests.support.live_radio import Radio, radio_with
from tests.support.raw_http import raw_request
from voice_streaming.settings.model import AccessSettings

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


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_unknown_paths_are_not_found(radio: Radio, method: str) -> None:
    for path in ("/stream/nothing", "/stream/", "/stream/a/b.mp3", "/stream/kitchen.opus"):
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
