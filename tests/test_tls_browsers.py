"""Real browsers, and the authority that they trust or do not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Error as PlaywrightError

from tests.support.bidi import BidiError
from tests.support.chromium import chromium
from tests.support.firefox import firefox
from voice_streaming.network.local_certificates import LocalCertificates

HOSTS = ("localhost", "127.0.0.1")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def certificates(tmp_path: Path) -> LocalCertificates:
    return LocalCertificates(tmp_path / "tls", lambda: list(HOSTS))


@pytest.fixture
def authority(tmp_path: Path, certificates: LocalCertificates) -> Path:
    path = tmp_path / "ca.crt"
    path.write_bytes(certificates.authority_pem())
    return path


@asynccontextmanager
async def secure_page(certificates: LocalCertificates) -> AsyncIterator[int]:
    """A page over HTTPS on 127.0.0.1; yields its port."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Heard</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.context())
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


IS_SECURE = "() => ({title: document.title, secure: isSecureContext, microphone: 'mediaDevices' in navigator})"
OPENED = {"title": "Heard", "secure": True, "microphone": True}


async def test_chromium_that_trusts_the_authority_opens_the_page(
    certificates: LocalCertificates, authority: Path
) -> None:
    async with secure_page(certificates) as port, chromium(authority=authority) as browser:
        for host in HOSTS:
            page = await browser.new_page()
            response = await page.goto(f"https://{host}:{port}/")
            assert await page.evaluate(IS_SECURE) == OPENED
            assert response is not None
            details = await response.security_details()
            assert details is not None
            assert str(details["issuer"]).startswith("Voice streaming on ")


async def test_chromium_that_does_not_know_the_authority_refuses_the_page(certificates: LocalCertificates) -> None:
    async with secure_page(certificates) as port, chromium() as browser:
        page = await browser.new_page()
        with pytest.raises(PlaywrightError, match="ERR_CERT_AUTHORITY_INVALID"):
            await page.goto(f"https://localhost:{port}/")


async def test_firefox_that_trusts_the_authority_opens_the_page(
    certificates: LocalCertificates, authority: Path
) -> None:
    async with secure_page(certificates) as port, firefox(authority=authority) as browser:
        page = await browser.new_page()
        for host in HOSTS:
            await page.goto(f"https://{host}:{port}/")
            assert await page.evaluate(IS_SECURE) == OPENED


async def test_firefox_that_does_not_know_the_authority_refuses_the_page(certificates: LocalCertificates) -> None:
    async with secure_page(certificates) as port, firefox() as browser:
        page = await browser.new_page()
        with pytest.raises(BidiError, match="SEC_ERROR_UNKNOWN_ISSUER"):
            await page.goto(f"https://localhost:{port}/")


async def test_browser_that_stays_open_gets_the_renewed_certificate(tmp_path: Path) -> None:
    names = ["localhost"]
    certificates = LocalCertificates(tmp_path / "tls", lambda: names)
    authority = tmp_path / "ca.crt"
    authority.write_bytes(certificates.authority_pem())
    async with secure_page(certificates) as port, chromium(authority=authority) as browser:
        refused = await browser.new_page()
        with pytest.raises(PlaywrightError, match="ERR_CERT_COMMON_NAME_INVALID"):
            await refused.goto(f"https://127.0.0.1:{port}/")

        names.append("127.0.0.1")
        assert certificates.renew_if_needed()

        page = await browser.new_page()
        await page.goto(f"https://127.0.0.1:{port}/")
        assert await page.evaluate(IS_SECURE) == OPENED
