"""The flows that matter most, in Firefox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.audio import Samples
from tests.support.firefox import Firefox, FirefoxPage, firefox
from tests.support.matching import assert_heard
from tests.support.pages import record_element
from tests.support.ports import free_port
from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.voice_pages import (
    WATCH,
    everyone_left,
    hears_silence,
    hears_sound,
    listen,
    press,
    says,
    talk,
)

UNTIL_SHOWN = """
async (selector) => {
    while (!document.querySelector(selector)) await new Promise(resolve => setTimeout(resolve, 50));
}
"""
PLAY_FROM_THE_BEGIN = """
async () => {
    const player = document.querySelector("#player");
    player.currentTime = 0;
    await player.play();
}
"""

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(speech_wav: Path) -> AsyncIterator[Firefox]:
    async with firefox(microphone=speech_wav) as running:
        yield running


@asynccontextmanager
async def opened(browser: Firefox, server: RunningServer, *paths: str) -> AsyncIterator[list[FirefoxPage]]:
    """Watched pages of the server, which must not log errors of their own; afterwards nobody is there."""
    pages = [await browser.new_page() for _ in paths]
    for page, path in zip(pages, paths, strict=True):
        await page.goto(server.url(path))
        await page.evaluate(WATCH)
        await page.evaluate("() => localStorage.clear()")
    try:
        yield pages
    finally:
        complaints = [line for page in pages for line in page.console() if line.startswith("error")]
        for page in pages:
            await page.evaluate("() => localStorage.clear()")
            await page.close()
    assert not complaints, complaints
    await everyone_left(server)


async def test_talk_mute_change_and_stop(browser: Firefox, pages_daemon: RunningServer) -> None:
    async with opened(browser, pages_daemon, "/sender", "/receiver") as (sender, receiver):
        await press(sender, "#stays-ready")
        await talk(sender, "kitchen")
        await listen(receiver, "kitchen")
        await hears_sound(receiver)
        await press(sender, "#mute")
        await says(sender, "^Muted")
        await hears_silence(receiver)
        await press(sender, "#mute")
        await press(sender, "#echoCancellation")
        await hears_sound(receiver)
        assert await sender.evaluate("() => microphones.map(({track}) => track.readyState)") == ["ended", "live"]
        await says(receiver, "^[1-9]\\d* ms behind the server, measured", "#delay")
        await press(sender, "#talk")
        await says(receiver, "^The voice ended. Waiting for the next voice…$")
        await says(sender, "^Off")
        assert await sender.evaluate("() => microphones.map(({track}) => track.readyState)") == ["ended", "ended"]


async def test_a_page_that_waits_is_connected_before_anybody_talks_and_stays_so(
    browser: Firefox, pages_daemon: RunningServer
) -> None:
    async with opened(browser, pages_daemon, "/sender", "/receiver") as (sender, receiver):
        await press(receiver, "#listen")
        for _ in range(3):
            await says(receiver, "Waiting for the next voice…$")
            await talk(sender, "kitchen")
            await says(receiver, "^You hear “kitchen”$")
            await hears_sound(receiver)
            await press(sender, "#talk")
            await says(receiver, "^The voice ended.")
        assert await receiver.evaluate("() => peers.map(peer => peer.connectionState)") == ["connected"]


async def test_the_space_bar_talks(browser: Firefox, pages_daemon: RunningServer) -> None:
    async with opened(browser, pages_daemon, "/sender") as (sender,):
        await sender.evaluate("() => document.querySelector('#talk').focus()")
        await sender.press(" ")
        await says(sender, "^Live as")
        await sender.press(" ")
        await says(sender, "^Ready")


async def test_presses_use_one_connection_and_one_microphone(browser: Firefox, pages_daemon: RunningServer) -> None:
    async with opened(browser, pages_daemon, "/sender", "/receiver") as (sender, receiver):
        await press(sender, "#arm")
        await says(sender, "^Ready")
        await press(receiver, "#listen")
        for _ in range(3):
            await talk(sender)
            await says(receiver, "^You hear")
            await hears_sound(receiver)
            await press(sender, "#talk")
            await says(sender, "^Ready")
            await says(receiver, "^The voice ended")
        assert await sender.evaluate("() => microphones.map(({track}) => track.readyState)") == ["live"]
        assert await sender.evaluate("() => peers.map(peer => peer.connectionState)") == ["connected"]


async def test_talking_and_listening_go_on_after_a_restart(browser: Firefox) -> None:
    ports = free_port(), free_port()
    async with running_server(ports=ports) as server:
        sender, receiver = await browser.new_page(), await browser.new_page()
        for page, path in ((sender, "/sender"), (receiver, "/receiver")):
            await page.goto(server.url(path))
            await page.evaluate(WATCH)
        await talk(sender, "attic")
        await listen(receiver, "attic")
    await asyncio.gather(says(sender, "^Coming back…$"), says(receiver, "^Coming back…$"))
    await says(sender, "The server does not answer", "#server-problem")
    async with running_server(ports=ports) as server:
        await says(sender, "^Live as “attic”$")
        await says(receiver, "^You hear “attic”$")
        await hears_sound(receiver)
        assert await sender.evaluate("() => microphones.length") == 1
        await sender.close()
        await receiver.close()
        await everyone_left(server)


async def test_a_recording_is_played(browser: Firefox, speech: Samples, payloads: list[bytes]) -> None:
    settings = {"recording": {"mode": "always", "open": True, "min_free_bytes": 0}}
    async with running_server(settings) as server, opened(browser, server, "/recordings") as (page,):
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await sender.send(payloads[:300])
            await sender.stop()
        await page.evaluate(UNTIL_SHOWN, ".play:not([hidden])")
        await press(page, ".play")

        async def take() -> Samples:
            await page.evaluate(PLAY_FROM_THE_BEGIN)
            return await record_element(page, "#player", seconds=4)

        await assert_heard(speech, take, at_least_s=2)


async def test_sound_waits_for_a_tap_where_the_browser_wants_one(browser: Firefox, pages_daemon: RunningServer) -> None:
    # Firefox lets pages play that may use the microphone; those that may not are told no way on loopback, so that the
    # MP3 plays.
    strict_browser = firefox(autoplay=False, grant_microphone=False)
    async with opened(browser, pages_daemon, "/sender") as (sender,), strict_browser as strict:
        await talk(sender, "kitchen")
        page = await strict.new_page()
        await page.goto(pages_daemon.url("/receiver"))
        await page.evaluate("() => { localStorage['voice.listening'] = 'true'; }")
        await page.goto(pages_daemon.url("/receiver?again"))
        await says(page, "^Tap once to hear$")
        await says(page, "^Your browser wants a tap before it plays sound.$", "#problem")
        await page.click("#listen")
        await says(page, "^You hear “kitchen”$")
        await page.close()


async def test_a_tap_is_asked_for_before_anybody_talks(browser: Firefox, pages_daemon: RunningServer) -> None:
    strict_browser = firefox(autoplay=False, grant_microphone=False)
    async with opened(browser, pages_daemon, "/sender") as (sender,), strict_browser as strict:
        page = await strict.new_page()
        await page.goto(pages_daemon.url("/receiver"))
        await page.evaluate("() => { localStorage['voice.listening'] = 'true'; }")
        await page.goto(pages_daemon.url("/receiver?again"))
        await says(page, "^Tap once to hear$")
        await page.click("#listen")
        await says(page, "^Waiting for the next voice…$")
        await talk(sender, "kitchen")
        await says(page, "^You hear “kitchen”$")
        await page.close()


async def test_without_a_microphone_the_page_says_so(pages_daemon: RunningServer) -> None:
    async with firefox() as deaf, opened(deaf, pages_daemon, "/sender") as (sender,):
        await press(sender, "#talk")
        await says(sender, "^There is no microphone. Plug one in and press again.$", "#problem")
        await says(sender, "^Off")
