"""Real players at the whole daemon: each opens the radio before anybody speaks, and is kept through two speakers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.audio import Samples, encode_opus
from tests.support.browsers import BROWSERS, BrowserPage, browser_page
from tests.support.matching import SAME_SPEECH, match
from tests.support.pages import record_element
from tests.support.players import PLAYERS, playing, record
from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer
from tests.support.speech import OTHER_TEXT, synthesise
from tests.support.voice_pages import says

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

SPEAKING_S = 6
"""Each speaks so long, in real time: twice what must be heard, as players skip or stretch where they buffer."""


@pytest.fixture(scope="module")
def other_speech() -> Samples:
    return synthesise(OTHER_TEXT)


def heard_at_s(reference: Samples, recording: Samples) -> list[float]:
    """When seconds of that speech begin in the recording."""
    return [window.start_s for window in match(reference, recording).windows if window.score > SAME_SPEECH]


def assert_both_were_heard(first: Samples, second: Samples, recording: Samples, who: str) -> None:
    """At least three seconds of each, the one before the other. Windows come every half second."""
    first_s, second_s = heard_at_s(first, recording), heard_at_s(second, recording)
    length_s = recording.size / 48_000
    assert len(first_s) >= 5, f"{who} heard the first speaker only at {first_s} of {length_s:.1f} s"
    assert len(second_s) >= 5, f"{who} heard the second speaker only at {second_s} of {length_s:.1f} s"
    assert max(first_s) < min(second_s), f"{who}: {first_s}, then {second_s}"


@asynccontextmanager
async def chromium_sender(server: RunningServer, microphone: Path) -> AsyncIterator[BrowserPage]:
    """The page, before anybody talks."""
    async with browser_page("chromium", microphone=microphone) as page:
        await page.goto(server.url("/sender"))
        yield page


async def both_speak(server: RunningServer, chromium: BrowserPage, other: Samples) -> None:
    """A browser, silence, and then another sender."""
    await chromium.click("#talk")
    await says(chromium, "^Live")
    await asyncio.sleep(SPEAKING_S)
    await chromium.click("#talk")
    await asyncio.sleep(1)
    async with voice_sender(server.ws_url, name="second") as sender:
        await sender.send(encode_opus(other)[: SPEAKING_S * 50])
        await sender.stop()
    await asyncio.sleep(2.5)


async def test_players_keep_the_radio_through_two_senders(
    server: RunningServer, speech: Samples, speech_wav: Path, other_speech: Samples
) -> None:
    async with AsyncExitStack() as stack:
        playbacks = {
            player: await stack.enter_async_context(playing(player, server.audio_url("/stream/latest.mp3")))
            for player in PLAYERS
        }
        chromium = await stack.enter_async_context(chromium_sender(server, speech_wav))
        await both_speak(server, chromium, other_speech)
        for player, playback in playbacks.items():
            recording = await playback.stop()
            assert_both_were_heard(speech, other_speech, recording, player)


async def test_audio_elements_keep_the_radio_through_two_senders(
    server: RunningServer, speech: Samples, speech_wav: Path, other_speech: Samples
) -> None:
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(browser_page(browser)) for browser in BROWSERS]
        for page in pages:
            await page.goto(server.audio_url("/health"))
            await page.evaluate(
                """async () => {
                    const audio = document.createElement("audio");
                    audio.src = "/stream/latest.mp3";
                    document.documentElement.append(audio);
                    await audio.play();
                }"""
            )
        chromium = await stack.enter_async_context(chromium_sender(server, speech_wav))
        speaking = asyncio.create_task(both_speak(server, chromium, other_speech))
        recordings = await asyncio.gather(*(record_element(page, "audio", seconds=20, timeout_s=20) for page in pages))
        await speaking
    for browser, recording in zip(BROWSERS, recordings, strict=True):
        assert_both_were_heard(speech, other_speech, recording, browser)


async def test_players_of_one_stream_end_with_it(server: RunningServer, other_speech: Samples) -> None:
    """An announcement: it is heard, and the players fall idle by themselves."""
    payloads = encode_opus(other_speech)
    url = server.audio_url("/stream/announcement.mp3")
    async with voice_sender(server.ws_url, name="announcement") as sender:
        speaking = asyncio.create_task(sender.send(payloads))
        await asyncio.sleep(0.5)
        playing_it = asyncio.gather(*(record(player, url, seconds=60) for player in PLAYERS))
        await speaking
        await sender.stop()
        async with asyncio.timeout(15):
            recordings = await playing_it
    for player, recording in zip(PLAYERS, recordings, strict=True):
        assert len(heard_at_s(other_speech, recording)) >= 14, player


async def test_players_play_playlists_and_answers_with_a_length(server: RunningServer, other_speech: Samples) -> None:
    """ffmpeg and curl know no such playlists."""
    payloads = encode_opus(other_speech)
    playlist = server.audio_url("/stream/playlist.m3u?burst=0.2")
    with_length = server.audio_url("/stream/playlist.mp3?length=5")
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
        assert len(heard_at_s(other_speech, recording)) >= 14
    for recording in (curl, ffmpeg):
        assert len(heard_at_s(other_speech, recording)) >= 6
        assert recording.size / 48_000 == pytest.approx(5, abs=0.1)
