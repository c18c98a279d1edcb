"""Pages of the server in a frame of a dashboard of another origin, as DOCS.md shows it."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import yaml
from aiohttp import web
from playwright.async_api import Browser, expect

from tests.support.ports import free_port
from tests.support.server import REPOSITORY, running_server
from tests.support.voice_pages import press_once_ready, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

(SECTION,) = re.findall(r"## A page on a dashboard\n(.*?)\n## ", (REPOSITORY / "DOCS.md").read_text(), re.DOTALL)
SETTINGS, CARD = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))
DOCUMENTED_DASHBOARD = "http://homeassistant.local:8123"


@asynccontextmanager
async def dashboard(framed: str) -> AsyncIterator[str]:
    """A page with the other one in a frame; yields its address, which is of another site."""

    async def page(request: web.Request) -> web.Response:
        frame = f'<iframe src="{html.escape(framed)}" width="300" height="250"></iframe>'
        return web.Response(text=f"<!doctype html><title>Home</title>{frame}", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://localhost:{port}"
    finally:
        await runner.cleanup()


async def test_the_webpage_card_needs_the_one_setting(pages_browser: Browser) -> None:
    assert CARD["type"] == "iframe"
    path = CARD["url"].removeprefix("http://192.168.1.10:8080").replace("kitchen", "demo")
    setting: str = SETTINGS["server"]["frame_ancestors"]
    assert DOCUMENTED_DASHBOARD in setting
    port = free_port()
    async with dashboard(f"http://127.0.0.1:{port}{path}&lang=de") as address:
        for allowed in (False, True):
            settings = {"frame_ancestors": setting.replace(DOCUMENTED_DASHBOARD, address)} if allowed else {}
            async with (
                running_server({"server": settings}, arguments=["--demo"], ports=(port, free_port())) as server,
                visitors(pages_browser, server) as guests,
            ):
                page = await guests.page("", url=address)
                frame = page.frames[1]
                if not allowed:
                    await expect(frame.locator("#listen")).to_have_count(0)
                    assert "frame-ancestors" in guests.complaints.pop()
                    continue
                await press_once_ready(frame, "#listen")
                await expect(frame.locator("#state")).to_have_text("Zu hören ist „demo“")
                await expect(frame.locator(".settings")).to_be_hidden()
                assert await frame.evaluate("document.documentElement.scrollHeight <= innerHeight")
