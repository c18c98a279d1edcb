"""What browsers and servers refuse: the pages say it, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.chromium import chromium
from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.voice_pages import INSECURE_NAME, Visitors, hears_sound, press, says, talk, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

# Of somebody who was listening when the page was closed: what it says once it is connected.
TELLS_BY_ITSELF = """
() => {
    if (!location.host) return;
    localStorage["voice.listening"] = "true";
    const text = id => document.getElementById(id).textContent;
    setInterval(() => {
        if (peers.some(({connectionState}) => connectionState === "connected"))
            console.log(`${text("state")}: ${text("problem")}`);
    }, 100);
}
"""
TAP_WANTED = "Tap once to hear: Your browser wants a tap before it plays sound."


async def test_over_plain_http_the_sender_page_explains_and_shows_the_way(guests: Visitors) -> None:
    page = await guests.page("", url=f"http://{INSECURE_NAME}:{guests.server.port}/sender")
    await says(page, "Browsers give the microphone only to secure pages", "#secure")
    assert await page.is_disabled("#talk")
    # The address needs `server.tls`, which this daemon has not; the next test has it.
    assert await page.get_attribute("#secure-link", "href") is None


async def test_over_plain_http_the_link_leads_to_https_on_the_same_host(pages_browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    settings = {"tls": "auto", "tls_port": port, "data_dir": str(tmp_path)}
    async with running_server({"server": settings}) as server, visitors(pages_browser, server) as guests:
        page = await guests.page("", url=f"http://{INSECURE_NAME}:{server.port}/sender")
        link = page.locator("#secure-link")
        await expect(link).to_have_attribute("href", f"https://{INSECURE_NAME}:{port}/sender")
        await expect(page.locator("#secure-help a")).to_have_attribute("href", "certificate")


async def test_a_full_server_is_said_and_tried_again(pages_browser: Browser) -> None:
    async with running_server({"server": {"max_connections": 1}}) as server, visitors(pages_browser, server) as guests:
        first = await guests.page("/")
        await says(first, "^Connected$", "#connection")
        second = await guests.page("/receiver")
        await says(second, "^The server is full", "#server-problem")
        await first.close()
        await says(second, "^Connected$", "#connection")
        assert await second.is_hidden("#server-problem")


async def test_what_a_strict_browser_refuses_is_asked_for(speech_wav: Path, guests: Visitors) -> None:
    """Sound before a press, and the microphone."""
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    async with (
        chromium(microphone=speech_wav, grant_microphone=False, autoplay=False) as strict,
        visitors(strict, guests.server) as strangers,
    ):
        # Not by `says`, as what Playwright evaluates counts as a press.
        receiver = await strangers.page("/receiver", scripts=[TELLS_BY_ITSELF], wait_for=TAP_WANTED)
        await receiver.click("#listen")
        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)

        page = await strangers.page("/sender")
        await press(page, "#talk")
        await says(page, "^The microphone is blocked. Allow it", "#problem")
        await says(page, "^Off")
