"""Three nodes with an address each, behind real proxies, and real browsers: what users see when servers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.support.audio import Samples
from tests.support.campus import Campus, campus, haproxy
from tests.support.chromium import chromium
from tests.support.cluster import until_listed
from tests.support.matching import assert_same_speech
from tests.support.players import record
from tests.support.voice_pages import says

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


WATCH_PACKETS = """
() => {
    const peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(configuration) {
            super(configuration);
            peers.push(this);
        }
    };
    window.gaps = [];
    const received = async () => {
        let sum = 0;
        for (const peer of peers)
            if (peer.connectionState === "connected")
                for (const report of (await peer.getStats()).values())
                    if (report.type === "inbound-rtp") sum += report.packetsReceived;
        return sum;
    };
    (async () => {
        for (let last = 0, lastAt = 0; ; ) {
            const sum = await received(), now = performance.now();
            if (sum !== last) {
                if (lastAt && now - lastAt > 120) gaps.push(Math.round(now - lastAt));
                [last, lastAt] = [sum, now];
            }
            await new Promise(resolve => setTimeout(resolve, 10));
        }
    })();
}
"""
"""Writes down for how many milliseconds no packet of sound came, where that was long."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Campus]:
    async with campus() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def balanced(site: Campus) -> AsyncIterator[str]:
    """The address of HAProxy, which is in front of all nodes."""
    async with haproxy(site) as port:
        yield f"http://localhost:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(site: Campus, speech_wav: Path) -> AsyncIterator[Browser]:
    async with chromium(microphone=speech_wav) as started:
        yield started


async def talk(browser: Browser, address: str, name: str) -> Page:
    page = await browser.new_page()
    await page.goto(f"{address}/sender")
    await page.evaluate(
        "name => { document.querySelector('#name').value = name; document.querySelector('#talk').click(); }", name
    )
    await says(page, f"^Live as “{name}”$")
    return page


async def listen(browser: Browser, address: str, name: str) -> Page:
    context = await browser.new_context()
    await context.add_init_script(f"({WATCH_PACKETS})()")
    page = await context.new_page()
    await page.goto(f"{address}/receiver?stream={name}")
    await page.click("#listen")
    await says(page, f"^You hear “{name}”$")
    return page


async def test_speech_through_one_node_is_heard_through_all(
    site: Campus, balanced: str, browser: Browser, speech: Samples
) -> None:
    talker = await talk(browser, balanced, "kitchen")
    for server in site.nodes.values():
        await until_listed(server, "kitchen")
        for path in ("/stream/kitchen.mp3", "/stream/kitchen.ogg"):
            assert_same_speech(speech, await record("ffmpeg", server.audio_url(path), seconds=4))
    await talker.close()


async def test_a_rolling_restart_costs_less_than_a_second(site: Campus, balanced: str, browser: Browser) -> None:
    talker = await talk(browser, balanced, "kitchen")
    page = await listen(browser, balanced, "kitchen")
    for name in list(site.nodes):
        await site.stop(name)
        await site.start(name)
        await says(page, "^You hear “kitchen”$")
        await asyncio.sleep(2)
    gaps = await page.evaluate("gaps")
    print(gaps)
    assert sum(gaps) < 1000
    await says(talker, "^Live as “kitchen”$")
    await talker.close()
    await page.context.close()
