"""Real browsers, and the authority that they trust or do not know."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Error as PlaywrightError

from tests.support.bidi import BidiError
from tests.support.chromium import chromium
from tests.support.firefox import firefox
from voice_streaming.network.certificates import Identity, make_server_identity
from voice_streaming.network.local_certificates import LocalCertificates
from voice_streaming.network.tls_context import server_context

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
async def secure_page(certificates: LocalCertificates | OtherSite) -> AsyncIterator[int]:
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


OTHER_SITE = "bank.example"


class OtherSite:
    """A page at OTHER_SITE whose certificate the authority of `folder` signed, as a thief of its key would."""

    def __init__(self, folder: Path) -> None:
        authority = Identity.from_pem((folder / "authority.pem").read_bytes())
        path = folder / "other.pem"
        path.write_bytes(make_server_identity(authority, [OTHER_SITE], datetime.now(UTC)).to_pem())
        self._context = server_context()
        self._context.load_cert_chain(path)

    def context(self) -> ssl.SSLContext:
        return self._context


async def test_chromium_refuses_another_site_that_the_trusted_authority_signed(
    tmp_path: Path, certificates: LocalCertificates, authority: Path
) -> None:
    mapping = f"--host-resolver-rules=MAP {OTHER_SITE} 127.0.0.1"
    async with (
        secure_page(certificates) as own,
        secure_page(OtherSite(tmp_path / "tls")) as port,
        chromium(authority=authority, arguments=[mapping]) as browser,
    ):
        page = await browser.new_page()
        with pytest.raises(PlaywrightError, match=r"ERR_CERT_(INVALID|AUTHORITY_INVALID|NAME_CONSTRAINT_VIOLATION)"):
            await page.goto(f"https://{OTHER_SITE}:{port}/")
        # Another one, as the browser's page of the error still comes to this one.
        page = await browser.new_page()
        await page.goto(f"https://localhost:{own}/")
        assert await page.evaluate(IS_SECURE) == OPENED


async def test_firefox_refuses_another_site_that_the_trusted_authority_signed(
    tmp_path: Path, certificates: LocalCertificates, authority: Path
) -> None:
    preferences = {"network.dns.localDomains": OTHER_SITE}
    async with (
        secure_page(certificates) as own,
        secure_page(OtherSite(tmp_path / "tls")) as port,
        firefox(authority=authority, preferences=preferences) as browser,
    ):
        page = await browser.new_page()
        with pytest.raises(BidiError, match="SEC_ERROR_CERT_NOT_IN_NAME_SPACE"):
            await page.goto(f"https://{OTHER_SITE}:{port}/")
        await page.goto(f"https://localhost:{own}/")
        assert await page.evaluate(IS_SECURE) == OPENED
