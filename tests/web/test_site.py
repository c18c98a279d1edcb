"""What the site serves beside its pages."""

from __future__ import annotations

import aiohttp
import pytest

from tests.support.server import RunningServer
from voice_streaming.web.qr_code import LONGEST_TEXT, qr_code_svg

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_pages_load_is_asked_for_each_time_and_sent_only_if_it_changed(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http:
        for address in (pages_daemon.url("/static/page.js"), pages_daemon.audio_url("/static/page.js")):
            async with http.get(address) as response:
                assert response.headers["Cache-Control"] == "no-cache"
                tag = response.headers["ETag"]
            async with http.get(address, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
                assert response.headers["Cache-Control"] == "no-cache"


async def test_browsers_that_ask_for_the_old_icon_get_one(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http, http.get(pages_daemon.url("/favicon.ico")) as response:
        assert (response.status, response.content_type) == (200, "image/svg+xml")


async def test_the_manifest_is_known_as_one(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http, http.get(pages_daemon.url("/static/manifest.webmanifest")) as response:
        assert (response.status, response.content_type) == (200, "application/manifest+json")


async def test_a_text_that_makes_no_readable_picture_is_refused(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http:
        for query in ("", "?text=", f"?text={'x' * (LONGEST_TEXT + 1)}"):
            async with http.get(pages_daemon.url(f"/qr.svg{query}")) as response:
                assert response.status == 400
                assert "?text= is wrong" in await response.text()
        async with http.get(pages_daemon.url(f"/qr.svg?text={'x' * LONGEST_TEXT}")) as response:
            assert (response.status, response.content_type) == (200, "image/svg+xml")


@pytest.mark.parametrize("text", ["", "x" * (LONGEST_TEXT + 1)])
async def test_qr_codes_have_limits(text: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        qr_code_svg(text)
