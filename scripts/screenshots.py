"""Pictures of every page in every state and language, at a phone's, a tablet's and a desk's width, in light, in dark
and in high contrast.

    python -m scripts.screenshots FOLDER [--widths 320 768 1440] [--languages en de es fr]

It starts daemons and browsers of its own, on loopback, with the demo's voice as the microphone. Names tell page,
state, language, width and colours: `sender-live-en-320-dark.png`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.support.audio import decode_audio, write_wav
from tests.support.chromium import chromium
from tests.support.cluster import nodes, until_listed
from tests.support.live_streams import payloads
from tests.support.rtc_client import voice_receiver
from tests.support.server import REPOSITORY, RunningServer, running_server
from tests.support.talking import talking
from voice_streaming.web.languages import LANGUAGES

WIDTHS = (320, 768, 1440)
HEIGHTS = {320: 640, 768: 1024, 1440: 900}
COLOURS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
CONTRAST = "contrast"
"""Of file names: with `forced-colors`, as Windows has it."""

CONNECTING_MS = 3_000
"""Much longer than WebRTC needs on one machine."""
INSECURE_NAME = "voice.lan"
"""A name that Chromium takes for this machine, and for one that it cannot trust with the microphone over plain HTTP."""


class Gallery:
    """Takes the pictures, from pages of one daemon."""

    def __init__(
        self, folder: Path, widths: Sequence[int], language: str, server: RunningServer, browser: Browser
    ) -> None:
        self.folder = folder
        self.widths = widths
        self.language = language
        self.server = server
        self._browser = browser

    @asynccontextmanager
    async def page(
        self, path: str, *, browser: Browser | None = None, url: str | None = None, listened: bool = False
    ) -> AsyncIterator[Page]:
        """A page of a visitor who has not been here before, or of one who was listening when it was closed."""
        context = await (browser or self._browser).new_context(locale=self.language)
        try:
            if listened:
                await context.add_init_script("localStorage['voice.listening'] = 'true'")
            page = await context.new_page()
            await page.goto(url or self.server.url(path))
            yield page
        finally:
            await context.close()

    async def take(self, page: Page, name: str) -> None:
        """Pictures of the page as it is now: all of it, where it is higher than the window."""
        for width in self.widths:
            await page.set_viewport_size(ViewportSize(width=width, height=HEIGHTS.get(width, 720)))
            for colours in COLOURS:
                await page.emulate_media(color_scheme=colours)
                await self._take(page, f"{name}-{self.language}-{width}-{colours}")
            await page.emulate_media(color_scheme="light", forced_colors="active")
            await self._take(page, f"{name}-{self.language}-{width}-{CONTRAST}")
            await page.emulate_media(forced_colors="none")

    async def _take(self, page: Page, name: str) -> None:
        path = self.folder / f"{name}.png"
        await page.screenshot(path=path, full_page=True, animations="disabled")
        print(path)


async def state(page: Page, name: str) -> None:
    """Waits until the page's round button is in that state."""
    await page.locator(f".round[data-state={name}]").wait_for()


async def talk(page: Page, name: str) -> None:
    await page.fill("#name", name)
    # From the keyboard: with the mouse a long press would mean to talk while it lasts.
    await page.focus("#talk")
    await page.keyboard.press("Enter")
    await state(page, "live")


async def listen(page: Page, becomes: str = "playing") -> None:
    await page.click("#listen")
    await state(page, becomes)


async def pictures_of_silence(gallery: Gallery) -> None:
    """What is seen while nobody talks, and what becomes of the waiting page when somebody does."""
    async with gallery.page("/") as page:
        await page.locator("#empty").wait_for()
        await page.locator("#latest", has_text="latest.mp3").wait_for()
        await gallery.take(page, "overview-empty")
    async with gallery.page("/sender") as page:
        await state(page, "idle")
        await gallery.take(page, "sender-off")
    async with gallery.page("/receiver") as page:
        await state(page, "idle")
        await gallery.take(page, "receiver-off")
        await page.click("#listen")
        await state(page, "waiting")
        await gallery.take(page, "receiver-waiting")
    async with gallery.page("/certificate") as page:
        await gallery.take(page, "certificate")
        await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        await gallery.take(page, "certificate-opened")
    async with gallery.page("/", url=gallery.server.audio_url("/stream/latest.mp3")) as page:
        await state(page, "idle")
        nobody = await page.locator("#state").inner_text()
        await gallery.take(page, "player-waiting")
        async with gallery.page("/sender") as sender:
            await talk(sender, "")
            await expect(page.locator("#state")).not_to_have_text(nobody)
            await gallery.take(page, "player-ready")
            await page.click("#start")
            await state(page, "playing")
            await gallery.take(page, "player-playing")


async def pictures_of_voices(gallery: Gallery) -> None:
    """A voice on the air and whoever hears it; then the server goes."""
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(gallery.page("/sender"))
        overview = await stack.enter_async_context(gallery.page("/"))
        receiver = await stack.enter_async_context(gallery.page("/receiver"))
        await talk(sender, "kitchen")
        await listen(receiver)
        await receiver.locator("#delay", has_text="ms").wait_for()
        await gallery.take(receiver, "receiver-playing")
        await overview.locator("h2", has_text="kitchen").wait_for()
        await overview.locator("button.listen").first.click()
        await overview.wait_for_timeout(CONNECTING_MS)
        await gallery.take(overview, "overview-live")
        await sender.locator("#facts", has_text=re.compile("· 1 ")).wait_for()
        await gallery.take(sender, "sender-live")
        await sender.click("#mute")
        await gallery.take(sender, "sender-muted")
        await sender.click("#mute")
        await sender.focus("#talk")
        await sender.keyboard.press("Enter")
        await state(sender, "ready")
        await gallery.take(sender, "sender-ready")
        await gallery.server.stop()
        for page, name in ((sender, "sender"), (receiver, "receiver"), (overview, "overview")):
            await page.locator("#server-problem").wait_for()
            await gallery.take(page, f"{name}-unreachable")


async def pictures_of_refusals(gallery: Gallery, strict: Browser) -> None:
    """What a browser forbids: sound before a press, and the microphone."""
    # First, as Chromium counts a press on one page for others of the same server.
    async with gallery.page("/receiver", browser=strict, listened=True) as page:
        # The page tries again once it is connected, and Playwright's questions count as a press by then.
        await page.wait_for_timeout(CONNECTING_MS)
        await state(page, "blocked")
        await gallery.take(page, "receiver-blocked")
    async with gallery.page("/sender", browser=strict) as page:
        await page.focus("#talk")
        await page.keyboard.press("Enter")
        await page.locator("#problem").wait_for()
        await gallery.take(page, "sender-denied")
    url = f"http://{INSECURE_NAME}:{gallery.server.port}/sender"
    async with gallery.page("/sender", url=url) as page:
        await page.locator("#secure").wait_for()
        await gallery.take(page, "sender-insecure")


async def pictures_of_rooms(gallery: Gallery) -> None:
    """Who speaks to rooms, and who stands in one, some of them not to be disturbed."""
    url = gallery.server.ws_url
    async with voice_receiver(url, room="Kitchen"), voice_receiver(url, room="Kids") as asleep:
        await asleep.signalling.send("set_do_not_disturb", room="Kids", until=time.time() + 3_600)
        async with (
            gallery.page("/sender?rooms=Kitchen,Kids") as sender,
            gallery.page("/receiver?room=Kids") as receiver,
        ):
            await listen(receiver, "waiting")
            await gallery.take(receiver, "receiver-room")
            await talk(sender, "Garage")
            await gallery.take(sender, "sender-rooms")


async def pictures_of_recordings(gallery: Gallery) -> None:
    """A list with one that is going on, one that is finished, and one that may still come back."""
    async with gallery.page("/sender") as sender, gallery.page("/recordings") as page:
        await page.locator("#state", has_text=re.compile(".")).wait_for()
        await gallery.take(page, "recordings-none")
        await talk(sender, "kitchen")
        record = page.locator("#streams .record")
        for count in (1, 2):
            await record.click()
            await page.locator("#days .badge:visible").wait_for()
            await page.wait_for_timeout(CONNECTING_MS)
            await record.click()
            await expect(page.locator("#days .play:visible")).to_have_count(count)
        await record.click()
        await page.locator("#days .badge:visible").wait_for()
        await gallery.take(sender, "sender-recorded")
        await gallery.take(page, "recordings")
        await page.locator("#days .delete:visible").first.click()
        await page.locator("#undo").wait_for()
        await gallery.take(page, "recordings-undo")


async def pictures_of_a_cluster(gallery: Gallery, nodes: Sequence[RunningServer]) -> None:
    """A voice at one node, and whoever hears it at another."""
    first, second, _ = nodes
    async with talking(first.ws_url, "kitchen", payloads(50)):
        await until_listed(second, "kitchen")
        async with voice_receiver(second.ws_url, "kitchen"), gallery.page("/cluster") as page:
            await expect(page.locator("#nodes > li")).to_have_count(len(nodes))
            await gallery.take(page, "cluster")


async def take_all(folder: Path, widths: Sequence[int], language: str) -> None:
    async with AsyncExitStack() as stack:
        microphone = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "voice.wav"
        write_wav(microphone, decode_audio(REPOSITORY / "voice_streaming" / "streams" / "demo.ogg"))
        names = [f"--host-resolver-rules=MAP {INSECURE_NAME} 127.0.0.1"]
        browser = await stack.enter_async_context(chromium(microphone=microphone, arguments=names))
        strict = await stack.enter_async_context(chromium(grant_microphone=False, autoplay=False))
        silent = await stack.enter_async_context(running_server())
        await pictures_of_silence(Gallery(folder, widths, language, silent, browser))
        server = await stack.enter_async_context(running_server(arguments=["--demo"]))
        gallery = Gallery(folder, widths, language, server, browser)
        await pictures_of_refusals(gallery, strict)
        await pictures_of_voices(gallery)
        recording = {"mode": "manual", "open": True, "min_free_bytes": 0}
        server = await stack.enter_async_context(running_server({"recording": recording}))
        await pictures_of_recordings(Gallery(folder, widths, language, server, browser))
        rooms = {"rooms": ["Kitchen", "Kids", "Office"], "streams": {"exclusive_rooms": ["Office"]}}
        server = await stack.enter_async_context(running_server(rooms))
        await pictures_of_rooms(Gallery(folder, widths, language, server, browser))
        _, several = await stack.enter_async_context(nodes("one", "two", "three"))
        await pictures_of_a_cluster(Gallery(folder, widths, language, several[1], browser), several)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of every page in every state.")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, metavar="PIXELS")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for language in options.languages:
        asyncio.run(take_all(options.folder, options.widths, language))


if __name__ == "__main__":
    main()
