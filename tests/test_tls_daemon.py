"""HTTPS of the whole daemon, as the people of a LAN meet it: get the authority, trust it, open the page."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import aiohttp
import pytest

from tests.support.chromium import chromium
from tests.support.firefox import firefox
from tests.support.pages import ScriptedPage
from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.trust import download_authority

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def assert_microphone_is_offered(page: ScriptedPage) -> None:
    offered = "() => isSecureContext && 'getUserMedia' in navigator.mediaDevices"
    assert await page.evaluate(offered) is True


async def test_sender_page_opens_in_chromium_and_firefox_that_trust_the_downloaded_authority(tmp_path: Path) -> None:
    tls_port, authority = free_port(), tmp_path / "ca.crt"
    settings = {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path / "data")}
    async with running_server({"server": settings}) as server:
        await download_authority(server, authority)
        async with chromium(authority=authority) as browser:
            chromium_page = await browser.new_page()
            for host in ("localhost", "127.0.0.1"):
                await chromium_page.goto(f"https://{host}:{tls_port}/sender")
                await assert_microphone_is_offered(chromium_page)
        async with firefox(authority=authority) as browser:
            firefox_page = await browser.new_page()
            for host in ("localhost", "127.0.0.1"):
                await firefox_page.goto(f"https://{host}:{tls_port}/sender")
                await assert_microphone_is_offered(firefox_page)


async def test_authority_is_the_same_after_a_restart_and_its_key_stays_at_home(tmp_path: Path) -> None:
    settings = {"tls": "auto", "tls_port": free_port(), "data_dir": str(tmp_path / "data")}
    downloads = tmp_path / "first.crt", tmp_path / "second.crt"

    for download in downloads:
        async with running_server({"server": settings}) as server:
            await download_authority(server, download)

    assert downloads[0].read_bytes() == downloads[1].read_bytes()
    assert b"PRIVATE KEY" not in downloads[0].read_bytes()
    assert stat.S_IMODE((tmp_path / "data" / "tls" / "authority.pem").stat().st_mode) == 0o600


async def test_signalling_works_over_https(tmp_path: Path) -> None:
    tls_port, authority = free_port(), tmp_path / "ca.crt"
    settings = {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path / "data")}
    async with running_server({"server": settings}) as server, aiohttp.ClientSession() as session:
        await download_authority(server, authority)
        context = ssl.create_default_context(cafile=authority)
        async with session.ws_connect(f"wss://localhost:{tls_port}/ws", ssl=context) as socket:
            assert (await socket.receive_json())["type"] == "available_streams"
