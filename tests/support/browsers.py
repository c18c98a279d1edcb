"""The same page in either browser, for tests that must hold in both.

Let a sender and a receiver be separate browsers: what Firefox's own pages play is an echo to its microphone's
processing, which then removes it (a page that called itself scored 0.5 instead of 0.9).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args

from playwright.async_api import ViewportSize

from tests.support.chromium import chromium
from tests.support.firefox import firefox
from tests.support.pages import ScriptedPage

BrowserName = Literal["chromium", "firefox"]
BROWSERS: tuple[BrowserName, ...] = get_args(BrowserName)


class BrowserPage(ScriptedPage, Protocol):
    """What both browsers' pages can do."""

    async def goto(self, url: str) -> object:
        """Open an address and wait until it is loaded."""

    async def click(self, selector: str) -> None:
        """Click an element with the mouse, as soon as it is there."""

    async def screenshot(self, *, path: Path) -> object:
        """Write a PNG picture of what is visible."""

    async def set_viewport_size(self, viewport_size: ViewportSize) -> None:
        """Set the size of the page, in CSS pixels."""


@asynccontextmanager
async def browser_page(
    name: BrowserName, *, microphone: Path | None = None, grant_microphone: bool = True, autoplay: bool = True
) -> AsyncIterator[BrowserPage]:
    """Run a browser with one empty page while the block runs; see `chromium` and `firefox` for the options."""
    if name == "chromium":
        async with chromium(microphone=microphone, grant_microphone=grant_microphone, autoplay=autoplay) as browser:
            yield await browser.new_page()
    else:
        async with firefox(microphone=microphone, grant_microphone=grant_microphone, autoplay=autoplay) as browser:
            yield await browser.new_page()
