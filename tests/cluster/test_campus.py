"""Three nodes with an address each, behind real proxies, and real browsers: what users see when servers come and go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.audio import Samples
from tests.support.campus import Campus, campus, haproxy, nginx
from tests.support.chromium import chromium
from tests.support.cluster import (
    offer_to_receive,
    until_known,
    until_listed,
    until_said,
    until_true,
)
from tests.support.live_streams import get_json, payloads
from tests.support.matching import assert_heard
from tests.support.pages import record_stream
from tests.support.players import record
from tests.support.rtc_client import voice_receiver
from tests.support.server import RunningServer
from tests.support.signalling import signalling
from tests.support.talking import talking
from tests.support.voice_pages import says
from tests.test_pages_accessible import assert_accessible

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
    window.heard = () => new MediaStream(peers.at(-1).getReceivers().map(receiver => receiver.track));
    window.packets = 0;
    window.missingMs = 0;
    const counts = new Map();
    const count = async () => {
        for (const peer of peers)
            if (peer.connectionState === "connected")
                for (const report of (await peer.getStats()).values())
                    if (report.type === "inbound-rtp") {
                        packets += report.packetsReceived - (counts.get(peer) ?? 0);
                        counts.set(peer, report.packetsReceived);
                    }
    };
    (async () => {
        for (let before = 0, begun = performance.now(); ; ) {
            await new Promise(resolve => setTimeout(resolve, 100));
            await count();
            const now = performance.now();
            if (before) missingMs = Math.max(0, missingMs + now - begun - 20 * (packets - before));
            [before, begun] = [packets, now];
        }
    })();
}
"""
"""Counts packets of sound, 20 ms each, and how much is missing: what comes late, from a busy talker or to a busy page,
is missing until it comes."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Campus]:
    async with campus() as made:
        yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def emptied(site: Campus) -> AsyncIterator[None]:
    """Afterwards every node knows that nobody talks: a page that was closed is gone a moment later."""
    yield
    for server in site.nodes.values():
        await until_listed(server)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def balanced(site: Campus) -> AsyncIterator[str]:
    """The address of HAProxy, which is in front of all nodes."""
    async with haproxy(site) as port:
        yield f"http://localhost:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(site: Campus, speech_wav: Path) -> AsyncIterator[Browser]:
    async with chromium(microphone=speech_wav) as started:
        yield started


@asynccontextmanager
async def talking_page(browser: Browser, address: str, name: str) -> AsyncIterator[Page]:
    """A talk page that is live under the name."""
    page = await browser.new_page()
    try:
        await page.goto(f"{address}/sender")
        await page.evaluate(
            "name => { document.querySelector('#name').value = name; document.querySelector('#talk').click(); }", name
        )
        await says(page, f"^Live as “{name}”$")
        yield page
    finally:
        await page.close()


@asynccontextmanager
async def listening_page(browser: Browser, address: str, name: str) -> AsyncIterator[Page]:
    """A listen page that plays the stream, with WATCH_PACKETS."""
    context = await browser.new_context()
    try:
        await context.add_init_script(f"({WATCH_PACKETS})()")
        page = await context.new_page()
        await page.goto(f"{address}/receiver?stream={name}")
        await page.click("#listen")
        await says(page, f"^You hear “{name}”$")
        yield page
    finally:
        await context.close()


async def until_more(page: Page) -> None:
    """Waits for half a second of sound."""
    await page.evaluate(
        """async () => {
            for (const before = packets; packets < before + 25; ) await new Promise(r => setTimeout(r, 20));
        }"""
    )


async def test_speech_through_one_node_is_heard_through_all(
    site: Campus, balanced: str, browser: Browser, speech: Samples
) -> None:
    async with talking_page(browser, balanced, "kitchen"):
        for server in site.nodes.values():
            await until_listed(server, "kitchen")
        players = [
            partial(record, "ffmpeg", server.audio_url(f"/stream/kitchen.{kind}"), seconds=4)
            for server in site.nodes.values()
            for kind in ("mp3", "ogg")
        ]
        await asyncio.gather(*(assert_heard(speech, take) for take in players))
        for server in site.nodes.values():
            async with listening_page(browser, server.url(""), "kitchen") as page:
                await assert_heard(speech, partial(record_stream, page, "heard()", seconds=4))


async def test_nginx_is_in_front_of_them_as_well(site: Campus, browser: Browser) -> None:
    async with nginx(site) as port:
        address = f"http://localhost:{port}"
        async with talking_page(browser, address, "attic"), listening_page(browser, address, "attic") as page:
            await until_more(page)


async def test_of_whip_and_whep_sessions_any_node_is_asked(site: Campus, balanced: str) -> None:
    one, two = site.nodes["one"], site.nodes["two"]
    async with aiohttp.ClientSession() as http, talking(one.ws_url, "hall", payloads(50), address=site.address):
        await until_listed(two, "hall")
        headers = {"Content-Type": "application/sdp"}
        async with http.post(
            two.url("/whep/hall"), data=await offer_to_receive(site.address), headers=headers
        ) as response:
            assert response.status == 201, await response.text()
            path = response.headers["Location"].removeprefix(two.url(""))
        for _ in range(6):
            async with http.get(balanced + path) as response:
                assert response.status == 204
            fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
            headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"wrong"'}
            async with http.patch(balanced + path, data=fragment, headers=headers) as response:
                assert response.status == 412
        assert [m for m in (await get_json(two.url("/health")))["clients_via"].items() if m[0] == "whep"] == [
            ("whep", 1)
        ]
        async with http.delete(one.url(path)) as response:
            assert response.status == 200
        async with http.delete(balanced + path) as response:
            assert response.status == 404
        unknown = path.replace(path.rpartition("/")[2], "00000000.abc")
        async with http.delete(one.url(unknown)) as response:
            assert response.status == 404


async def test_a_page_shows_which_server_has_what(site: Campus, balanced: str, browser: Browser) -> None:
    one, two = site.nodes["one"], site.nodes["two"]
    context = await browser.new_context(locale="en-GB")
    page = await context.new_page()
    async with talking(one.ws_url, "kitchen", payloads(50), address=site.address):
        await until_listed(two, "kitchen")
        async with voice_receiver(two.ws_url, "kitchen", address=site.address):
            await page.goto(balanced)
            await page.click("#cluster")
            cards = page.locator("#nodes > li")
            await expect(cards).to_have_count(3)
            await expect(page.locator("#state")).to_have_text("3 servers")
            await expect(cards.filter(has_text="one").locator(".voices li").first).to_contain_text("kitchen")
            await expect(cards.filter(has_text="two").locator(".facts").first).to_contain_text("brings 1 voice")
            await assert_accessible(page)
            await site.stop("three")
            await expect(cards).to_have_count(2)
            await site.start("three")
            await expect(cards).to_have_count(3)
    await expect(page.locator(".voices li")).to_have_count(0)
    await context.close()


async def test_a_rolling_restart_costs_less_than_a_second(site: Campus, balanced: str, browser: Browser) -> None:
    async with (
        talking_page(browser, balanced, "kitchen") as talker,
        listening_page(browser, balanced, "kitchen") as page,
    ):
        for name in ("one", "two", "three"):
            await site.stop(name)
            await site.start(name)
            await says(page, "^You hear “kitchen”$")
        await until_more(page)
        assert await page.evaluate("missingMs") < 1000
        await says(talker, "^Live as “kitchen”$")


async def test_when_a_node_dies_its_receivers_and_its_talker_go_on_elsewhere(
    site: Campus, balanced: str, browser: Browser
) -> None:
    async with talking_page(browser, balanced, "kitchen"), listening_page(browser, balanced, "kitchen") as page:
        for whose, limit_s in (("receiver", 3), ("talker", 5)):
            victim = await node_of(site, whose)
            await site.kill(victim)
            (survivor, *_) = [server for name, server in site.nodes.items() if name != victim]

            async def is_elsewhere(survivor: RunningServer = survivor, victim: str = victim) -> bool:
                return (await live_at(survivor, "kitchen")) not in (victim, "")

            await until_true(is_elsewhere, limit_s)
            await says(page, "^You hear “kitchen”$")
            await until_more(page)
            assert await page.evaluate("missingMs") < limit_s * 1000
            await page.evaluate("missingMs = 0")
            await until_listed(await site.start(victim), "kitchen")


async def live_at(server: RunningServer, name: str) -> str:
    """Which node has the stream, as the server knows; empty: it is not there, or pauses."""
    details = (await get_json(server.url("/stream/status")))["details"]
    return next((one["node"] for one in details if one["name"] == name and not one["paused"]), "")


async def node_of(site: Campus, whose: str) -> str:
    """The name of the node that the talker, or the receiver is with: perhaps the same."""
    nodes = (await get_json(site.nodes["three"].url("/api/cluster")))["nodes"]
    (owner,) = [node["name"] for node in nodes if node["streams"]]
    if whose == "talker":
        return str(owner)
    return str(next((node["name"] for node in nodes if node["receivers"] and node["name"] != owner), owner))


async def test_a_node_that_is_cut_off_from_redis_is_still_heard(site: Campus) -> None:
    one, two = site.nodes["one"], site.nodes["two"]
    said = payloads(50)
    async with talking(one.ws_url, "kitchen", said, address=site.address):
        await until_listed(two, "kitchen")
        async with voice_receiver(two.ws_url, "kitchen", address=site.address) as receiver:
            await receiver.packets.wait_for(20)
            site.cut("one", site.redis_address)
            try:
                await until_said(one, "registry", "away")
                await until_known(two, "three")
                await receiver.packets.wait_for(len(receiver.packets) + 350)
                assert [m["type"] for m in receiver.signalling.history if "ended" in m["type"]] == []
                numbers = [packet.sequence for packet in receiver.packets]
                assert {(after - before) & 0xFFFF for before, after in itertools.pairwise(numbers)} == {1}
            finally:
                site.mend("one", site.redis_address)
            await until_known(two, "one", "three")
            await until_listed(two, "kitchen")
            await receiver.packets.wait_for(len(receiver.packets) + 50)


async def test_a_node_that_is_cut_off_from_a_peer_says_so(site: Campus) -> None:
    one, two, three = (site.nodes[name] for name in ("one", "two", "three"))
    said = payloads(50)
    async with talking(one.ws_url, "kitchen", said, address=site.address), signalling(two.ws_url) as client:
        await until_listed(two, "kitchen")
        async with voice_receiver(two.ws_url, "kitchen", address=site.address) as receiver:
            await receiver.packets.wait_for(20)
            site.cut("one", site.addresses["two"])
            try:
                await client.expect("stream_paused", timeout_s=20)
                async with voice_receiver(three.ws_url, "kitchen", address=site.address) as other:
                    await other.packets.wait_for(20)
                await until_said(two, "unreachable", ["one"])
            finally:
                site.mend("one", site.addresses["two"])
            await client.expect("stream_resumed", timeout_s=30)
            await receiver.packets.wait_for(len(receiver.packets) + 20)
