"""A client's side of the signalling protocol (DESIGN section 4), with nothing of WebRTC in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

Message = dict[str, Any]


class SignallingError(AssertionError):
    """The server sent an `error` message that the test did not expect, or closed the socket too early."""


class Signalling:
    """One WebSocket to the server.

    Messages are kept in `inbox`, in order of arrival, until `expect` takes them out. `history` keeps all of them.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.inbox: list[Message] = []
        self.history: list[Message] = []
        self.socket = socket
        self._arrived = asyncio.Condition()
        self._closed = False
        self._reader = asyncio.create_task(self._read(), name="signalling client")

    async def send(self, message_type: str, **fields: Any) -> None:
        """Send one message; `fields` go beside its `type`."""
        await self.socket.send_json({"type": message_type, **fields})

    async def expect(self, message_type: str, *, timeout_s: float = 10, **fields: Any) -> Message:
        """Take the first message of that type with those fields out of the inbox, waiting until there is one.

        Other messages stay in the inbox. SignallingError if an `error` message is there instead (and none was
        expected), if the socket closes, or if the time is over.
        """
        wanted = {"type": message_type, **fields}
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                while True:
                    for message in self.inbox:
                        if wanted.items() <= message.items():
                            self.inbox.remove(message)
                            return message
                        if message["type"] == "error" and message_type != "error":
                            raise SignallingError(f"while waiting for {wanted}: {message}")
                    if self._closed:
                        raise SignallingError(f"closed with {self.socket.close_code} while waiting for {wanted}")
                    await self._arrived.wait()
        except TimeoutError:
            raise SignallingError(f"no {wanted} within {timeout_s} s, only {self.inbox}") from None

    async def settle(self) -> None:
        """Wait until the server has handled all that was sent, and what it had to say before is in the inbox.

        It handles what a client sends one after the other, and sends in that order; no `unknown_type` may be open.
        """
        await self.send("fence")
        await self.expect("error", code="unknown_type")

    async def expect_none(self, message_type: str) -> None:
        """Wait until the server has handled all that was sent; SignallingError if a message of that type has come."""
        await self.settle()
        if unwanted := [message for message in self.inbox if message["type"] == message_type]:
            raise SignallingError(f"not expected: {unwanted}")

    async def expect_close(self, *, timeout_s: float = 10) -> int | None:
        """Wait until the server closes the socket; return the close code, None if it sent none."""
        async with asyncio.timeout(timeout_s), self._arrived:
            while not self._closed:
                await self._arrived.wait()
        return self.socket.close_code

    async def close(self) -> None:
        """Close the socket as a page does when it is left."""
        await self.socket.close()
        await self._reader

    async def _read(self) -> None:
        async for frame in self.socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                message = frame.json()
                async with self._arrived:
                    self.inbox.append(message)
                    self.history.append(message)
                    self._arrived.notify_all()
        async with self._arrived:
            self._closed = True
            self._arrived.notify_all()


@asynccontextmanager
async def signalling(
    ws_url: str, *, from_address: str | None = None, **connect_options: Any
) -> AsyncIterator[Signalling]:
    """Connect to the server's `/ws` while the block runs; options go to aiohttp's `ws_connect`."""
    connector = aiohttp.TCPConnector(local_addr=(from_address, 0) if from_address else None)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.ws_connect(ws_url, **connect_options) as socket,
    ):
        client = Signalling(socket)
        try:
            yield client
        finally:
            await client.close()
