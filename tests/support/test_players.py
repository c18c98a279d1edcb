"""The players, on an MP3 of a few seconds and on one that arrives live and never ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.audio import SAMPLE_RATE_HZ, Samples, encode_mp3
from tests.support.matching import assert_same_speech
from tests.support.players import PLAYERS, PlayerName, playing, record

pytestmark = pytest.mark.e2e

BYTES_PER_S = 128_000 // 8


# Enough to be sure, and soon over: VLC takes its time even when nobody listens.
FILE_S = 5


@pytest.fixture
async def url(speech: Samples) -> AsyncIterator[str]:
    mp3 = encode_mp3(speech[: FILE_S * SAMPLE_RATE_HZ])

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=mp3, content_type="audio/mpeg")

    async def live(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/mpeg", "Connection": "close"})
        await response.prepare(request)
        begun_s, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun_s + 0.5) * BYTES_PER_S)
            await response.write(bytes(mp3[position % len(mp3)] for position in range(sent, due)))
            sent = due
            await asyncio.sleep(0.1)

    app = web.Application()
    app.router.add_get("/file.mp3", file)
    app.router.add_get("/live.mp3", live)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def record_with_all(url: str, *, seconds: float) -> dict[PlayerName, Samples]:
    played = await asyncio.gather(*(record(player, url, seconds=seconds) for player in PLAYERS))
    return dict(zip(PLAYERS, played, strict=True))


async def test_a_file_is_played_to_its_end(url: str, speech: Samples) -> None:
    for player, played in (await record_with_all(f"{url}file.mp3", seconds=30)).items():
        match = assert_same_speech(speech, played, score=0.95)
        assert match.duration_s == pytest.approx(FILE_S, abs=0.2), player


async def test_a_live_stream_is_played_until_the_player_is_closed(url: str, speech: Samples) -> None:
    for player in PLAYERS:
        begun_s = time.monotonic()
        async with playing(player, f"{url}live.mp3") as playback, asyncio.timeout(30):
            while (await playback.played()).size < 3 * SAMPLE_RATE_HZ:  # noqa: ASYNC110 - nothing tells what it plays
                await asyncio.sleep(0.2)
            played = await playback.stop()
        match = assert_same_speech(speech, played, score=0.8)
        # It came half a second early.
        assert 3 <= match.duration_s < time.monotonic() - begun_s + 1, player


@pytest.mark.parametrize("player", ["ffmpeg", "mpv", "curl"])
async def test_a_player_that_gives_up_is_a_failure(player: PlayerName, url: str) -> None:
    with pytest.raises(AssertionError, match=r"gave up with \d+; log of"):
        await record(player, f"{url}missing.mp3", seconds=10)
