"""The daemon behind nginx and HAProxy: pages, signalling, MP3 and a path prefix."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from statistics import median

import aiohttp
import pytest

from tests.support.chromium import chromium
from tests.support.proxies import NGINX_CASE, PREFIX, haproxy, nginx, nginx_with_headers
from tests.support.raw_http import raw_request
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling

PUBLIC = "voice.example.com"
TRUSTING = {"access": {"trusted_proxies": ["127.0.0.1"]}}
BYTES_PER_S = 16_000
"""Of the MP3 at its default bit rate."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
async def trusting() -> AsyncIterator[RunningServer]:
    async with running_server(TRUSTING, arguments=["--demo"]) as server:
        yield server


def proxy(kind: str, server: RunningServer, prefix: str = "") -> AbstractAsyncContextManager[int]:
    return haproxy(server.port) if kind == "haproxy" else nginx(server.port, nginx_with_headers(prefix=prefix))


async def socket_status(port: int, origin: str, prefix: str = "") -> tuple[int, str]:
    """How a WebSocket of a page of that origin, opened by the public name, is answered; 101 where it is taken."""
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Origin: {origin}"]
    lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    async with raw_request(port, f"{prefix}/ws", *lines, host=f"{PUBLIC}:{port}") as answer:
        length = int(answer.headers.get("content-length", "0"))
        return answer.status, (await answer.some(length)).decode() if answer.status != 101 else ""


async def test_the_usual_block_alone_is_refused_with_the_setting_that_helps() -> None:
    async with running_server() as server, nginx(server.port) as port:
        assert (await socket_status(port, f"http://127.0.0.1:{port}"))[0] == 101
        status, text = await socket_status(port, f"http://{PUBLIC}:{port}")
        assert status == 403
        assert "access.allowed_origins" in text
        await server.process.wait_for_log("access.allowed_origins")


async def test_the_setting_helps() -> None:
    allowed = {"access": {"allowed_origins": [f"http://{PUBLIC}"]}}
    async with running_server(allowed) as server, nginx(server.port, NGINX_CASE) as port:
        assert (await socket_status(port, f"http://{PUBLIC}"))[0] == 101
        assert (await socket_status(port, "http://evil.example"))[0] == 403


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_a_trusted_proxy_needs_no_origin_and_skips_no_check(kind: str, trusting: RunningServer) -> None:
    async with proxy(kind, trusting) as port:
        assert (await socket_status(port, f"http://{PUBLIC}:{port}"))[0] == 101
        assert (await socket_status(port, "http://evil.example"))[0] == 403


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_the_mp3_is_not_held_back(kind: str, trusting: RunningServer) -> None:
    """What comes through the proxy comes in parts as small as what comes without it."""
    parts: dict[str, list[int]] = {"directly": [], "by the proxy": []}

    async def listen(way: str, url: str) -> None:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert answer.status == 200
            begun_s = time.monotonic()
            while time.monotonic() - begun_s < 4:
                part = await answer.content.readany()
                # Not the first second, in which what was before comes at once.
                if time.monotonic() - begun_s > 1:
                    parts[way].append(len(part))

    async with proxy(kind, trusting) as port:
        path = "/stream/demo.mp3"
        await asyncio.gather(
            listen("directly", trusting.url(path)), listen("by the proxy", f"http://127.0.0.1:{port}{path}")
        )
    for sizes in parts.values():
        assert sum(sizes) > 2 * BYTES_PER_S
    # nginx, told to ignore that the server forbids it, waits until 4096 bytes are there, which is 1.4 times as much.
    assert median(parts["by the proxy"]) <= 1.2 * median(parts["directly"])


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_pages_work_below_a_prefix_by_a_public_name(kind: str, trusting: RunningServer) -> None:
    mapping = f"--host-resolver-rules=MAP {PUBLIC} 127.0.0.1"
    async with proxy(kind, trusting, PREFIX) as port, chromium(arguments=[mapping]) as browser:
        page = await browser.new_page()
        async with page.expect_websocket() as opened:
            await page.goto(f"http://{PUBLIC}:{port}{PREFIX}/receiver")
        socket = await opened.value
        assert socket.url == f"ws://{PUBLIC}:{port}{PREFIX}/ws"
        await page.locator("option", has_text="demo").wait_for(state="attached")
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{PREFIX}/health") as health:
            assert (await health.json())["status"] == "ok"


async def test_limits_count_the_clients_behind_a_proxy() -> None:
    config = {**TRUSTING, "limits": {"connections_per_address": 1}}
    async with running_server(config) as server:
        headers = [{"X-Forwarded-For": f"198.51.100.{host}"} for host in (1, 2)]
        async with signalling(server.ws_url, headers=headers[0]), signalling(server.ws_url, headers=headers[1]):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with signalling(server.ws_url, headers=headers[0]):
                    pass
            assert refused.value.status == 429
