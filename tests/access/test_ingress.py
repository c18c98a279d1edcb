"""Home Assistant's ingress: everything under a path prefix, behind a real reverse proxy, in a real browser's frame."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import numpy as np
import pytest
from playwright.async_api import Frame, Page, expect

from tests.support.audio import decode_audio
from tests.support.chromium import chromium
from tests.support.ingress import ingress
from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.signalling import signalling
from tests.support.voice_pages import press_once_ready


async def frame_of(page: Page, home: str) -> Frame:
    """The add-on's frame on Home Assistant's page."""
    await page.goto(home)
    element = await page.wait_for_selector("#addon")
    assert element is not None
    frame = await element.content_frame()
    assert frame is not None
    return frame


async def mp3(url: str, cookies: dict[str, str], count: int) -> bytes:
    async with aiohttp.ClientSession(cookies=cookies) as http, http.get(url) as response:
        assert response.status == 200
        assert response.content_type == "audio/mpeg"
        return await response.content.readexactly(count)


@pytest.mark.e2e
@pytest.mark.timeout(120)
async def test_talking_and_listening_in_the_side_bar(speech_wav: Path) -> None:
    port = free_port()
    async with (
        running_server(environment={"INGRESS_PORT": str(port)}) as server,
        ingress(port) as proxy,
        chromium(microphone=speech_wav) as browser,
    ):
        context = await browser.new_context()
        talking = await frame_of(await context.new_page(), proxy.home)
        await talking.click("nav a[href=sender]")
        assert await talking.is_hidden("#own-tab")
        await talking.fill("#name", "kitchen")
        await press_once_ready(talking, "#talk")
        await expect(talking.locator("#state")).to_contain_text("Live", timeout=15_000)

        listening = await frame_of(await context.new_page(), proxy.home)
        await listening.wait_for_selector("#streams li")
        await listening.click("nav a[href=receiver]")
        await listening.click("#listen")
        await expect(listening.locator("#state")).to_contain_text("kitchen", timeout=15_000)

        samples = decode_audio(await mp3(proxy.url("/stream/kitchen.mp3"), proxy.cookies, 64_000))
        assert np.sqrt(np.mean(np.square(samples.astype(np.float64)))) > 0.01
        async with aiohttp.ClientSession() as http, http.get(server.url("/stream/status")) as response:
            (details,) = (await response.json())["details"]
        assert details["stream_id"] == "kitchen"
        assert details["receivers"] == 1


@pytest.mark.e2e
@pytest.mark.timeout(120)
async def test_where_the_frame_has_no_microphone_the_page_offers_its_own_tab(speech_wav: Path) -> None:
    port = free_port()
    async with (
        running_server(environment={"INGRESS_PORT": str(port)}),
        ingress(port, {"Permissions-Policy": "microphone=()"}) as proxy,
        chromium(microphone=speech_wav) as browser,
    ):
        context = await browser.new_context()
        page = await context.new_page()
        frame = await frame_of(page, proxy.home)
        await frame.click("nav a[href=sender]")
        await frame.wait_for_selector("#own-tab:visible")
        async with context.expect_page() as opened:
            await frame.click("#own-tab a")
        tab = await opened.value
        assert tab.url == proxy.url("/sender")
        await press_once_ready(tab, "#talk")
        await expect(tab.locator("#state")).to_contain_text("Live", timeout=15_000)
        assert await tab.is_hidden("#own-tab")


async def test_signalling_on_the_bare_prefix_and_under_it() -> None:
    port = free_port()
    async with running_server(environment={"INGRESS_PORT": str(port)}), ingress(port) as proxy:
        headers = {"Cookie": f"ingress_session={proxy.cookies['ingress_session']}", "Origin": proxy.home.rstrip("/")}
        for path in ("/", "/ws"):
            async with signalling(proxy.url(path).replace("http", "ws", 1), headers=headers) as client:
                await client.expect("available_streams")


async def test_without_a_session_there_is_nothing() -> None:
    """What the proxy stands for: who is not logged in to Home Assistant does not reach the server."""
    port = free_port()
    async with (
        running_server(environment={"INGRESS_PORT": str(port)}),
        ingress(port) as proxy,
        aiohttp.ClientSession() as http,
        http.get(proxy.url("/")) as response,
    ):
        assert response.status == 401


async def test_the_ingress_port_is_for_home_assistant_alone() -> None:
    config = {"server": {"host": "0.0.0.0"}, "discovery": {"lan": False}}
    port = free_port()
    async with running_server(config, environment={"INGRESS_PORT": str(port)}) as server:
        for source, path_port, status in [
            ("127.0.0.1", port, 200),
            ("127.0.0.2", port, 403),
            ("127.0.0.2", server.port, 200),
        ]:
            connector = aiohttp.TCPConnector(local_addr=(source, 0))
            async with (
                aiohttp.ClientSession(connector=connector) as http,
                http.get(f"http://127.0.0.1:{path_port}/health") as response,
            ):
                assert response.status == status, (source, path_port)


async def test_a_taken_ingress_port_is_a_warning_and_the_rest_runs() -> None:
    async with (
        running_server() as other,
        running_server(environment={"INGRESS_PORT": str(other.port)}) as server,
    ):
        assert str(other.port) in await server.process.wait_for_log("side bar")
