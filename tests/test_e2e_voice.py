"""From a microphone to every listener: real browsers on the server's own pages, and real players.

One daemon, one Chromium and one Firefox serve most tests, and one Chromium page talks in most of them: what is recorded
elsewhere must be what it said.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, WebSocketRoute

from tests.support.audio import Samples
from tests.support.browsers import BROWSERS, BrowserName, BrowserPage
from tests.support.chromium import chromium
from tests.support.firefox import Firefox, firefox
from tests.support.matching import assert_heard
from tests.support.pages import record_element, record_stream
from tests.support.players import PlayerName, record
from tests.support.ports import free_port
from tests.support.server import RunningServer, running_server
from tests.support.voice_pages import WATCH, hears_sound

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

RECORDED_S = 5.0

UNTIL_IT_PLAYS = """
async () => {
    for (let begun = performance.now(), from = player.currentTime; ; ) {
        const {paused, muted, volume, currentTime} = player;
        if (!paused && !muted && volume && currentTime > from && player.srcObject?.active) return;
        if (performance.now() - begun > 15000) throw new Error(`not playing: ${[paused, muted, volume, currentTime]}`);
        await new Promise(resolve => setTimeout(resolve, 50));
    }
}
"""
UNTIL_TEXT = """
async ({selector, pattern}) => {
    const element = document.querySelector(selector);
    for (const begun = performance.now(); !RegExp(pattern).test(element.textContent); ) {
        const problem = document.querySelector("#problem")?.textContent;
        if (performance.now() - begun > 30000) throw new Error(`"${element.textContent}" (${problem})`);
        await new Promise(resolve => setTimeout(resolve, 20));
    }
    return element.textContent;
}
"""
# Asked in the very moment in which the page first says so.
ASK_THE_SERVER_WHEN_LIVE = """
() => {
    new MutationObserver((changes, observer) => {
        if (!document.querySelector("#state").textContent.startsWith("Live as")) return;
        observer.disconnect();
        const question = new XMLHttpRequest();
        question.open("GET", "stream/status", false);
        question.send();
        window.statusWhenLive = question.responseText;
    }).observe(document.querySelector("#state"), {childList: true, characterData: true, subtree: true});
}
"""


async def says(page: BrowserPage, pattern: str, *, selector: str = "#state") -> str:
    """Waits until an element's text matches; returns the text."""
    return str(await page.evaluate(UNTIL_TEXT, {"selector": selector, "pattern": pattern}))


async def talk(page: BrowserPage, server: RunningServer, name: str) -> None:
    """Goes live, as with the Enter key: a click of the mouse that takes long would mean to talk while it lasts."""
    await page.goto(server.url("/sender"))
    await page.evaluate(
        "name => { document.querySelector('#name').value = name; document.querySelector('#talk').click(); }", name
    )
    await says(page, f"^Live as “{name}”$")


async def listen(page: BrowserPage, server: RunningServer, name: str) -> None:
    await page.goto(server.url(f"/receiver?stream={name}"))
    await page.evaluate(WATCH)
    await page.click("#listen")
    await says(page, f"^You hear “{name}”$")


async def assert_plays(page: BrowserPage, speech: Samples, *, seconds: float = RECORDED_S) -> None:
    """The receiver page plays the speech, from now on."""
    await page.evaluate(UNTIL_IT_PLAYS)
    take = partial(record_stream, page, "player.srcObject", seconds=seconds)
    await assert_heard(speech, take, at_least_s=seconds / 2)


class Browsers:
    """Both browsers, each with the speech as its microphone; Firefox runs from its first page on."""

    def __init__(self, stack: AsyncExitStack, speech_wav: Path, chromium_browser: Browser) -> None:
        self.chromium = chromium_browser
        self._stack = stack
        self._speech_wav = speech_wav
        self._firefox: Firefox | None = None

    @asynccontextmanager
    async def page(self, name: BrowserName) -> AsyncIterator[BrowserPage]:
        if name == "chromium":
            context = await self.chromium.new_context()
            try:
                yield await context.new_page()
            finally:
                await context.close()
            return
        if self._firefox is None:
            self._firefox = await self._stack.enter_async_context(firefox(microphone=self._speech_wav))
        page = await self._firefox.new_page()
        try:
            yield page
        finally:
            await page.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browsers(speech_wav: Path) -> AsyncIterator[Browsers]:
    async with AsyncExitStack() as stack:
        yield Browsers(stack, speech_wav, await stack.enter_async_context(chromium(microphone=speech_wav)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon() -> AsyncIterator[RunningServer]:
    async with running_server() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kitchen(daemon: RunningServer, browsers: Browsers) -> AsyncIterator[str]:
    """The name of a stream that a Chromium page sends all the time."""
    async with browsers.page("chromium") as page:
        await talk(page, daemon, "kitchen")
        yield "kitchen"
        await says(page, "^Live as “kitchen”$")


@pytest.mark.parametrize("browser", BROWSERS)
async def test_what_chromium_says_is_heard_on_the_receiver_page(
    browser: BrowserName, browsers: Browsers, daemon: RunningServer, kitchen: str, speech: Samples
) -> None:
    async with browsers.page(browser) as page:
        await listen(page, daemon, kitchen)
        await assert_plays(page, speech)


async def test_what_firefox_says_is_heard_in_chromium(
    browsers: Browsers, daemon: RunningServer, speech: Samples
) -> None:
    async with browsers.page("firefox") as sender, browsers.page("chromium") as receiver:
        await talk(sender, daemon, "attic")
        await listen(receiver, daemon, "attic")
        await assert_plays(receiver, speech)


@pytest.mark.parametrize("player", ["ffmpeg", "vlc"])
async def test_a_player_plays_the_newest_voice_as_mp3(
    player: PlayerName, daemon: RunningServer, kitchen: str, speech: Samples
) -> None:
    await assert_heard(speech, partial(record, player, daemon.audio_url("/stream/latest.mp3"), seconds=RECORDED_S + 2))


@asynccontextmanager
async def foreign_page() -> AsyncIterator[str]:
    """The address of an empty page of another web server, such as a dashboard."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Dashboard</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    async with TestServer(application) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("browser", BROWSERS)
async def test_an_audio_element_plays_the_mp3(
    browser: BrowserName, browsers: Browsers, daemon: RunningServer, kitchen: str, speech: Samples
) -> None:
    async with browsers.page(browser) as page, foreign_page() as url:
        await page.goto(url)
        await page.evaluate(
            """url => {
                const audio = Object.assign(new Audio(), {crossOrigin: "anonymous", autoplay: true, src: url});
                document.body.append(audio);
            }""",
            daemon.audio_url(f"/stream/{kitchen}.mp3"),
        )
        await assert_heard(speech, partial(record_element, page, "audio", seconds=RECORDED_S, timeout_s=30))


async def test_ten_receivers_hear_one_voice(
    browsers: Browsers, daemon: RunningServer, kitchen: str, speech: Samples
) -> None:
    """Each with a profile of its own: of two tabs of one receiver only one plays.

    All play at the same time, by the browser's own account. Three of them are recorded, in turns: recorders take the
    time that the voice needs.
    """
    contexts = [await browsers.chromium.new_context() for _ in range(10)]
    try:
        pages = []
        for context in contexts:
            await context.add_init_script(f"({WATCH})()")
            pages.append(await context.new_page())
            await pages[-1].goto(daemon.url(f"/receiver?stream={kitchen}"))
            await pages[-1].click("#listen")
        await asyncio.gather(*(says(page, f"^You hear “{kitchen}”$") for page in pages))
        await asyncio.gather(*(hears_sound(page) for page in pages))
        for page in (pages[0], pages[4], pages[9]):
            await assert_plays(page, speech, seconds=3)
    finally:
        await asyncio.gather(*(context.close() for context in contexts))


async def test_the_sender_page_says_live_when_the_server_has_the_voice(
    browsers: Browsers, daemon: RunningServer
) -> None:
    async with browsers.page("chromium") as page:
        await page.goto(daemon.url("/sender"))
        await page.evaluate(ASK_THE_SERVER_WHEN_LIVE)
        await page.evaluate("() => document.querySelector('#talk').click()")
        text = await says(page, "^Live as")
        status = json.loads(await page.evaluate("() => statusWhenLive"))
        (name,) = re.findall("“(.*)”", text)
        (details,) = [details for details in status["details"] if details["name"] == name]
        assert details["state"] == "active"
        assert details["stream_id"] in status["active_streams"]


async def test_the_sender_page_does_not_say_live_while_no_packet_gets_through(
    browsers: Browsers, daemon: RunningServer
) -> None:
    """As behind a firewall: signalling works, and UDP does not."""

    def spoil(message: Any) -> str:
        # Port 9 is the discard protocol's (RFC 863).
        return re.sub(r"\d+( typ host)", r"9\1", str(message))

    def intercept(route: WebSocketRoute) -> None:
        there = route.connect_to_server()
        route.on_message(lambda message: there.send(spoil(message)))
        there.on_message(lambda message: route.send(spoil(message)))

    context = await browsers.chromium.new_context()
    try:
        page: Page = await context.new_page()
        await page.clock.install()
        await page.route_web_socket(re.compile("/ws$"), intercept)
        await page.goto(daemon.url("/sender"))
        await page.evaluate(ASK_THE_SERVER_WHEN_LIVE)
        await page.evaluate("() => document.querySelector('#talk').click()")
        await says(page, "^Connecting")
        await says(page, "not live yet", selector="#facts")
        await page.clock.fast_forward(10_000)
        await says(page, "No sound gets through", selector="#problem")
        assert await page.evaluate("() => window.statusWhenLive ?? null") is None
    finally:
        await context.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_open_pages_recover_from_a_restart_by_themselves(
    how: signal.Signals, browsers: Browsers, speech: Samples
) -> None:
    ports = free_port(), free_port()
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(browsers.page("chromium"))
        receiver = await stack.enter_async_context(browsers.page("chromium"))
        exit_code = 0 if how is signal.SIGTERM else -signal.SIGKILL
        async with running_server(ports=ports, expected_exit_code=exit_code) as server:
            await talk(sender, server, "cellar")
            await listen(receiver, server, "cellar")
            server.process.send_signal(how)
            await asyncio.gather(says(sender, "Coming back"), says(receiver, "Coming back"))
            assert await server.process.wait(timeout_s=5) == exit_code
            await says(sender, "Offline", selector="#connection")
        async with running_server(ports=ports):
            await says(sender, "^Live as “cellar”$")
            await says(receiver, "^You hear “cellar”$")
            await assert_plays(receiver, speech)
