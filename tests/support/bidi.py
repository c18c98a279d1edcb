"""A small client of WebDriver BiDi (W3C), the protocol that Firefox speaks without any driver program."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

# A recording of ten seconds comes back in one message.
_LARGEST_MESSAGE_BYTES = 64 * 2**20


class BidiError(AssertionError):
    """The browser refused a command, or is gone."""


class BidiSession:
    """One session: commands, their results, and the events that were subscribed to, in `events`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read(), name="BiDi session")

    async def command(self, method: str, *, timeout_s: float = 30, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; BidiError with the browser's words if it fails."""
        number = next(self._ids)
        self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_json({"id": number, "method": method, "params": params})
            async with asyncio.timeout(timeout_s):
                return await self._pending[number]
        except TimeoutError:
            raise BidiError(f"no answer to {method} within {timeout_s} s") from None
        finally:
            del self._pending[number]

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        async for frame in self._socket:
            message = frame.json()
            if message["type"] == "event":
                self.events.append(message)
                continue
            waiting = self._pending.get(message["id"])
            if waiting is None or waiting.done():
                continue
            if message["type"] == "success":
                waiting.set_result(message["result"])
            else:
                waiting.set_exception(BidiError(f"{message['error']}: {message['message']}"))
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(BidiError("the browser closed the session"))


@asynccontextmanager
async def bidi_session(ws_url: str, *, events: tuple[str, ...] = ()) -> AsyncIterator[BidiSession]:
    """Open a session at the address that the browser listens on, and subscribe to events."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{ws_url}/session", max_msg_size=_LARGEST_MESSAGE_BYTES) as socket,
    ):
        session = BidiSession(socket)
        try:
            await session.command("session.new", capabilities={})
            if events:
                await session.command("session.subscribe", events=list(events))
            yield session
        finally:
            await session.close()
