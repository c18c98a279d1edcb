"""A mock of Home Assistant's Supervisor, which runs nowhere else: its two answers to add-ons, and nothing more.

Shapes as in its developer documentation: `GET /addons/self/info` and `POST /discovery`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.ports import free_port

TOKEN = "the-token-of-the-mock"


class MockSupervisor:
    """Refuses `refusals` announcements, then takes them."""

    def __init__(self, port: int, network: Mapping[str, int | None] | None = None, refusals: int = 0) -> None:
        self.port = port
        self.network = network
        self._refusals = refusals
        self._announced: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the add-on's process finds."""
        return {"SUPERVISOR": f"127.0.0.1:{self.port}", "SUPERVISOR_TOKEN": TOKEN}

    async def announced(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next announcement that was taken."""
        async with asyncio.timeout(timeout_s):
            return await self._announced.get()

    async def info(self, request: web.Request) -> web.Response:
        _check_token(request)
        return web.json_response({"result": "ok", "data": {"slug": "voice_streaming", "network": self.network}})

    async def discovery(self, request: web.Request) -> web.Response:
        _check_token(request)
        if self._refusals:
            self._refusals -= 1
            return web.json_response({"result": "error", "message": "not now"}, status=400)
        await self._announced.put(await request.json())
        return web.json_response({"result": "ok", "data": {"uuid": "0123456789abcdef0123456789abcdef"}})


def _check_token(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        raise web.HTTPUnauthorized


@asynccontextmanager
async def mock_supervisor(
    network: Mapping[str, int | None] | None = None, refusals: int = 0
) -> AsyncIterator[MockSupervisor]:
    """A mock on loopback while the block runs; `network` is what the user chose on the add-on's page."""
    mock = MockSupervisor(free_port(), network, refusals)
    application = web.Application()
    application.add_routes([web.get("/addons/self/info", mock.info), web.post("/discovery", mock.discovery)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", mock.port).start()
    try:
        yield mock
    finally:
        await runner.cleanup()
