"""What the listen page gives to another device: its address and the certificate's, as QR codes."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
import zxingcpp
from playwright.async_api import Browser, Page, expect

from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.voice_pages import Visitors, says, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


async def codes_in(page: Page, selector: str) -> list[str]:
    await page.wait_for_function("selector => document.querySelector(selector).naturalWidth > 50", arg=selector)
    picture = await page.locator(selector).screenshot()
    with av.open(io.BytesIO(picture), "r") as file:
        pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")
    return [code.text for code in zxingcpp.read_barcodes(pixels)]


async def test_a_server_with_an_authority_of_its_own_shows_the_code_of_its_page(
    pages_browser: Browser, tmp_path: Path
) -> None:
    settings = {"tls": "auto", "tls_port": free_port(), "data_dir": str(tmp_path)}
    async with running_server({"server": settings}) as server, visitors(pages_browser, server) as guests:
        page = await guests.page("/receiver")
        await page.click("#share summary")
        await expect(page.locator("#trust")).to_be_visible()
        assert await codes_in(page, "#address-code") == [server.url("/receiver")]
        assert await codes_in(page, "#certificate-code") == [server.url("/certificate")]
        await page.click("#certificate")
        await expect(page).to_have_url(server.url("/certificate"))
        await expect(page.get_by_role("link", name="Download the certificate")).to_be_visible()


async def test_over_https_the_code_is_of_the_page_over_plain_http(tmp_path: Path, pages_browser: Browser) -> None:
    """A device that does not trust the server yet would be warned of its HTTPS."""
    tls_port = free_port()
    settings = {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path)}
    async with running_server({"server": settings}) as server:
        context = await pages_browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(f"https://127.0.0.1:{tls_port}/receiver")
        await page.click("#share summary")
        assert await codes_in(page, "#certificate-code") == [server.url("/certificate")]
        await context.close()


async def test_a_server_without_one_shows_the_address_alone(guests: Visitors) -> None:
    page = await guests.page("/receiver")
    async with page.expect_response("**/health"):
        await page.click("#share summary")
    await says(page, "/receiver$", "#address")
    assert await codes_in(page, "#address-code") == [page.url]
    await expect(page.locator("#trust")).to_be_hidden()
