"""The relay's own pages in real browsers: what they say, and what is heard on them.

The functions take pages of both browsers, unless their argument is a Playwright page.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, WebSocketRoute, expect
from playwright.async_api import Error as PlaywrightError

from tests.support.audio import level_dbfs
from tests.support.machine_addresses import addresses_that_stay
from tests.support.matching import LOUD_DBFS
from tests.support.pages import ScriptedPage, record_element
from tests.support.server import RunningServer

INSECURE_NAME = "voice.lan"
"""A name that the browser of the page tests takes for this machine, and for one that it must not trust with the
microphone over plain HTTP."""

# What the page opens. The modules look these names up when they need them, so this works on a loaded page, too.
WATCH = """
() => {
    window.peers = [];
    window.microphones = [];
    const Peer = RTCPeerConnection;
    window.RTCPeerConnection = class extends Peer {
        constructor(configuration) {
            super(configuration);
            peers.push(this);
        }
    };
    const devices = navigator.mediaDevices;
    const open = devices?.getUserMedia;
    if (open) devices.getUserMedia = async (constraints) => {
        const media = await open.call(devices, constraints);
        microphones.push({wanted: constraints.audio, track: media.getTracks()[0]});
        return media;
    };
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () {
        if (!this.loop) window.player = this; // not the silence of the talk page
        return play.call(this);
    };
}
"""
# For `Visitors.page`: what a network that lets no WebRTC through does to a page.
WEBRTC_BLOCKED = """
() => {
    const Peer = RTCPeerConnection;
    window.RTCPeerConnection = class extends Peer {
        constructor(configuration) {
            super({...configuration, iceTransportPolicy: "relay"});
        }
    };
}
"""
# For `Visitors.page`: somebody who has the microphone released between presses. A blank page keeps no settings.
RELEASES_MICROPHONE = """
() => {
    if (location.protocol !== "about:") localStorage["voice.staysReady"] = "false";
}
"""
_UNTIL_TEXT = """
async ({selector, pattern}) => {
    for (const begun = performance.now(); ; ) {
        const text = document.querySelector(selector).textContent;
        if (RegExp(pattern).test(text)) return text;
        const others = [...document.querySelectorAll(".notice:not([hidden])")].map(one => one.textContent);
        if (performance.now() - begun > 20000) throw new Error(`"${text}", not ${pattern}; ${others}`);
        await new Promise(resolve => setTimeout(resolve, 20));
    }
}
"""
# From the browser's own account of what it plays; 300 ms hold a syllable, and no pause of the speech is twice as long.
_UNTIL_LEVEL = """
async ({loud, threshold}) => {
    const played = async () => {
        for (const peer of peers.filter(({connectionState}) => connectionState === "connected"))
            for (const report of (await peer.getStats()).values())
                if (report.type === "inbound-rtp")
                    return [report.totalAudioEnergy, report.totalSamplesDuration, report.packetsReceived];
        return [0, 0, 0];
    };
    let windows = 0;
    for (const begun = performance.now(); ; ) {
        const [energy, duration, packets] = await played();
        await new Promise(resolve => setTimeout(resolve, 300));
        const [energyNow, durationNow, packetsNow] = await played();
        const seconds = durationNow - duration;
        const level = 10 * Math.log10((energyNow - energy) / seconds);
        const {paused, muted, volume} = player;
        const sounds = seconds > 0 && level > threshold;
        windows = !paused && !muted && volume && sounds === loud ? windows + 1 : 0;
        if (windows === (loud ? 1 : 2)) return level;
        if (performance.now() - begun < 20000) continue;
        const states = peers.map(({connectionState}) => connectionState);
        const said = document.querySelector("#state")?.textContent;
        const received = packetsNow - packets;
        const facts = {loud, level: String(level), seconds, received, states, said, paused, muted, volume};
        throw new Error(`what is heard: ${JSON.stringify(facts)}`);
    }
}
"""


async def says(page: ScriptedPage, pattern: str, selector: str = "#state") -> str:
    """Wait until the text of an element matches the regular expression; return the text."""
    return str(await page.evaluate(_UNTIL_TEXT, {"selector": selector, "pattern": pattern}))


async def hears_sound(page: ScriptedPage) -> None:
    """Wait until WebRTC brings sound to a watched page, and its player plays it."""
    await page.evaluate(_UNTIL_LEVEL, {"loud": True, "threshold": LOUD_DBFS})


async def hears_silence(page: ScriptedPage) -> None:
    """Wait until what the watched page's player plays is silence."""
    await page.evaluate(_UNTIL_LEVEL, {"loud": False, "threshold": LOUD_DBFS})


async def plays_sound(page: ScriptedPage, selector: str) -> None:
    """Wait until an `<audio>` element plays sound; players of the MP3 have the silence before it in their buffers."""
    async with asyncio.timeout(20):
        while level_dbfs(await record_element(page, selector, seconds=0.5)) < LOUD_DBFS:
            pass


async def stop_time(page: Page) -> None:
    """Stop the page's clock: from now on its timers run by `page.clock.run_for` and `fast_forward` alone."""
    await page.clock.install()
    try:
        await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
    except PlaywrightError as error:
        # The machine took longer than that second, and the clock was stopped after it.
        if "Cannot fast-forward to the past" not in error.message:
            raise


async def press(page: ScriptedPage, selector: str) -> None:
    """Press a button as the Enter key does: a click of the mouse that takes long would mean to talk while it lasts."""
    await page.evaluate("selector => document.querySelector(selector).click()", selector)


async def press_key(page: Page, key: str) -> None:
    """Press a key, and release it at once: on a busy machine that takes longer than a short press, which means to talk
    while it lasts. So the page is told that the release came with the press."""
    await page.evaluate(
        """() => addEventListener("keydown", (down) =>
            addEventListener("keyup", (up) =>
                Object.defineProperty(up, "timeStamp", {value: down.timeStamp}), {capture: true, once: true}),
            {capture: true, once: true})"""
    )
    await page.keyboard.press(key)


async def press_once_ready(page: Page | Frame, selector: str) -> None:
    """`press` for a page that may still be loading: its buttons are disabled until its script has come."""
    await expect(page.locator(selector)).to_be_enabled(timeout=20_000)
    await press(page, selector)


async def talk(page: ScriptedPage, name: str = "") -> None:
    """Go live on a sender page."""
    await page.evaluate("name => { document.querySelector('#name').value = name; }", name)
    await press(page, "#talk")
    await says(page, f"^Live as “{name}”$" if name else "^Live as")


async def take_over(page: ScriptedPage, name: str) -> None:
    """Go live on a sender page under a name that is in use, which the page asks about."""
    await page.evaluate("name => { document.querySelector('#name').value = name; }", name)
    await press(page, "#talk")
    await says(page, f"^“{name}” is in use: take over\\?$", "#taken-question")
    await press(page, "#take-over")
    await says(page, f"^Live as “{name}”$")


async def listen(page: ScriptedPage, name: str) -> None:
    """Press the button of a receiver page, and wait until it plays that stream."""
    await press(page, "#listen")
    await says(page, f"^You hear “{name}”$")


class Visitors:
    """Pages of visitors who have not been here before, each with a profile of its own.

    `complaints` holds what the pages logged as errors; a server that is away, or refuses, is none.
    """

    def __init__(self, browser: Browser, server: RunningServer) -> None:
        self.server = server
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def page(
        self,
        path: str,
        *,
        url: str | None = None,
        scripts: Sequence[str] = (),
        sockets: Callable[[WebSocketRoute], None] | None = None,
        wait_for: str = "",
        locale: str = "en-US",
    ) -> Page:
        """A watched page of the server, or of a `url`.

        `scripts` are functions that run before those of the page; `sockets` stands between it and the server;
        `wait_for` is what the page must log before it is touched; `locale` is the visitor's.
        """
        context = await self._browser.new_context(locale=locale)
        self._contexts.append(context)
        if sockets is not None:
            await context.route_web_socket(re.compile("/ws$"), sockets)
        for script in (WATCH, *scripts):
            await context.add_init_script(f"({script})()")
        page = await context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        async with AsyncExitStack() as stack:
            if wait_for:
                await stack.enter_async_context(page.expect_console_message(lambda message: message.text == wait_for))
            async with addresses_that_stay():
                await page.goto(url or self.server.url(path))
        return page

    async def leave(self) -> None:
        """Close all pages, as people do."""
        for context in self._contexts:
            for page in context.pages:
                await page.goto("about:blank")
            await context.close()

    def _note(self, message: ConsoleMessage) -> None:
        refused = "Failed to load resource" in message.text or "WebSocket connection" in message.text
        if message.type == "error" and not refused:
            self.complaints.append(message.text)


@asynccontextmanager
async def visitors(browser: Browser, server: RunningServer) -> AsyncIterator[Visitors]:
    """Let visitors come to the server's pages while the block runs; afterwards they are gone, without complaints."""
    guests = Visitors(browser, server)
    try:
        yield guests
    finally:
        await guests.leave()
    assert not guests.complaints, guests.complaints


async def everyone_left(server: RunningServer) -> None:
    """Wait until the server has no stream and no client any more."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        while True:
            async with http.get(server.url("/health")) as response:
                health = await response.json()
            if health["active_streams"] == health["connected_clients"] == 0:
                return
            await asyncio.sleep(0.05)
