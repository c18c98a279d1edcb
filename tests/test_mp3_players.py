"""Real players at the whole daemon, on the MP3 and on the Ogg: each opens the radio before anybody speaks, and is kept
through two speakers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest

from tests.support.audio import SAMPLE_RATE_HZ, Samples, encode_opus
from tests.support.browsers import BROWSERS, BrowserPage, browser_page
from tests.support.matching import SAME_SPEECH, assert_same_speech, match
from tests.support.pages import record_element
from tests.support.players import PLAYERS, playing, record
from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer
from tests.support.speech import OTHER_TEXT, synthesise
from tests.support.voice_pages import press, says

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

HEARD_WINDOWS = 5
"""Three seconds: windows are a second long and come every half second."""
COMPARED_S = 6
OPUS_SILENCE = [b"\xf8\xff\xfe"] * 10

AUDIO_FORMATS = ("mp3", "ogg")

Take: TypeAlias = Callable[[], Awaitable[Samples]]
"""Makes a recording."""


@pytest.fixture(scope="module")
def other_speech() -> Samples:
    return synthesise(OTHER_TEXT)


def heard_at_s(reference: Samples, recording: Samples) -> list[float]:
    """When seconds of that speech begin in the recording."""
    return [window.start_s for window in match(reference, recording).windows if window.score > SAME_SPEECH]


def assert_both_were_heard(first: Samples, second: Samples, recording: Samples, who: str) -> None:
    """Three seconds of each, the one before the other."""
    first_s, second_s = heard_at_s(first, recording), heard_at_s(second, recording)
    length_s = recording.size / 48_000
    assert len(first_s) >= HEARD_WINDOWS, f"{who} heard the first speaker only at {first_s} of {length_s:.1f} s"
    assert len(second_s) >= HEARD_WINDOWS, f"{who} heard the second speaker only at {second_s} of {length_s:.1f} s"
    assert max(first_s) < min(second_s), f"{who}: {first_s}, then {second_s}"


@asynccontextmanager
async def chromium_sender(server: RunningServer, microphone: Path) -> AsyncIterator[BrowserPage]:
    """The page, before anybody talks."""
    async with browser_page("chromium", microphone=microphone) as page:
        await page.goto(server.url("/sender"))
        yield page


async def until_heard(reference: Samples, take: Take) -> None:
    """Wait until one of the recordings that `take` makes ends with three seconds of that speech, or nearly so."""
    async with asyncio.timeout(60):
        while True:
            newest = (await take())[-COMPARED_S * SAMPLE_RATE_HZ :]
            if len(await asyncio.to_thread(heard_at_s, reference, newest)) >= HEARD_WINDOWS:
                return
            await asyncio.sleep(1)


async def both_speak(
    server: RunningServer, chromium: BrowserPage, first: Samples, second: Samples, takes: Sequence[Take]
) -> None:
    """A browser, a second of silence, and then another sender: each until all have heard it."""
    await press(chromium, "#talk")
    await says(chromium, "^Live")
    await asyncio.gather(*(until_heard(first, take) for take in takes))
    await press(chromium, "#talk")
    await asyncio.sleep(1)
    async with voice_sender(server.ws_url, name="second") as sender:
        speaking = asyncio.create_task(sender.send(itertools.cycle(encode_opus(second))))
        await asyncio.gather(*(until_heard(second, take) for take in takes))
        speaking.cancel()
        await sender.stop()


async def figure(server: RunningServer, name: str) -> int:
    """One of the figures of /metrics."""
    async with aiohttp.ClientSession() as http, http.get(server.url("/metrics")) as response:
        return int((await response.json())[name])


@pytest.mark.parametrize("audio", AUDIO_FORMATS)
async def test_players_keep_the_radio_through_two_senders(
    server: RunningServer, speech: Samples, speech_wav: Path, other_speech: Samples, audio: str
) -> None:
    async with AsyncExitStack() as stack:
        playbacks = {
            player: await stack.enter_async_context(playing(player, server.audio_url(f"/stream/latest.{audio}")))
            for player in PLAYERS
        }
        chromium = await stack.enter_async_context(chromium_sender(server, speech_wav))
        await both_speak(server, chromium, speech, other_speech, [one.played for one in playbacks.values()])
        for player, playback in playbacks.items():
            recording = await playback.stop()
            assert_both_were_heard(speech, other_speech, recording, player)


@pytest.mark.parametrize("audio", AUDIO_FORMATS)
async def test_audio_elements_keep_the_radio_through_two_senders(
    server: RunningServer, speech: Samples, speech_wav: Path, other_speech: Samples, audio: str
) -> None:
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(browser_page(browser)) for browser in BROWSERS]
        for page in pages:
            await page.goto(server.audio_url("/health"))
            await page.evaluate(
                """async address => {
                    const audio = document.createElement("audio");
                    audio.src = address;
                    document.documentElement.append(audio);
                    await audio.play();
                }""",
                f"/stream/latest.{audio}",
            )
        chromium = await stack.enter_async_context(chromium_sender(server, speech_wav))
        takes = [partial(record_element, page, "audio", seconds=5, timeout_s=20) for page in pages]
        for page in pages:
            await page.evaluate("""
                async () => {
                    const audio = document.querySelector("audio");
                    while (!audio.currentTime) await new Promise(resolve => setTimeout(resolve, 20));
                }
            """)
        connections = await figure(server, f"{audio}_listeners_total")
        await both_speak(server, chromium, speech, other_speech, takes)
        assert await figure(server, f"{audio}_listeners_total") == connections, "one has opened the radio anew"


@pytest.mark.parametrize("audio", AUDIO_FORMATS)
async def test_players_of_one_stream_end_with_it(server: RunningServer, other_speech: Samples, audio: str) -> None:
    """An announcement: it is heard, and the players fall idle by themselves."""
    url = server.audio_url(f"/stream/announcement.{audio}")
    async with voice_sender(server.ws_url, name="announcement") as sender:
        await sender.send(OPUS_SILENCE)
        await sender.signalling.expect("stream_available")
        playing_it = asyncio.gather(*(record(player, url, seconds=60) for player in PLAYERS))
        async with asyncio.timeout(20):
            while await figure(server, f"{audio}_listeners") < len(PLAYERS):
                await sender.send(OPUS_SILENCE)
        await sender.send(encode_opus(other_speech))
        await sender.stop()
        async with asyncio.timeout(15):
            recordings = await playing_it
    for recording in recordings:
        assert_same_speech(other_speech, recording, at_least_s=7.5)


async def test_players_play_playlists_and_answers_with_a_length(server: RunningServer, other_speech: Samples) -> None:
    """ffmpeg and curl know no such playlists."""
    payloads = encode_opus(other_speech)
    playlist = server.audio_url("/stream/playlist.m3u?burst=0.2")
    with_length = server.audio_url("/stream/playlist.mp3?length=5&burst=0.2")
    async with voice_sender(server.ws_url, name="playlist") as sender:
        speaking = asyncio.create_task(sender.send(payloads))
        await asyncio.sleep(0.5)
        playing_it = asyncio.gather(
            record("vlc", playlist, seconds=60),
            record("mpv", playlist, seconds=60),
            record("curl", with_length, seconds=60),
            record("ffmpeg", with_length, seconds=60),
        )
        await speaking
        await sender.stop()
        async with asyncio.timeout(15):
            *of_playlist, curl, ffmpeg = await playing_it
    for recording in of_playlist:
        assert_same_speech(other_speech, recording, at_least_s=7.5)
    for recording in (curl, ffmpeg):
        assert_same_speech(other_speech, recording, at_least_s=4)
        assert recording.size / 48_000 == pytest.approx(5, abs=0.1)
