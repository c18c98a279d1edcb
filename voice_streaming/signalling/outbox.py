"""Messages that are still to be written to a WebSocket: bounded, in order, written by one task."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

from ..access.paced_protocol import stop_reading


class Outbox:
    """The writing side of one WebSocket. `send` never waits.

    A client that leaves more than `limit` messages or `limit_bytes` unread is too slow: its socket is aborted and
    `overflowed` set.
    """

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, limit: int, limit_bytes: int) -> None:
        self.overflowed = False
        self._ws = ws
        self._transport = transport
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._queued_bytes = 0
        self._texts: deque[str] = deque()
        self._latest: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._written = asyncio.Event()
        self._closing = False

    def send(self, text: str) -> None:
        """Queues a message that must arrive."""
        if self._closing:
            return
        size = len(text.encode())
        if len(self._texts) >= self._limit or self._queued_bytes + size > self._limit_bytes:
            self.overflowed = True
            # No closing handshake: the client does not read.
            self.abort()
            return
        self._texts.append(text)
        self._queued_bytes += size
        self._changed.set()

    def send_latest(self, topic: str, text: str) -> None:
        """Queues a message of which only the newest matters: one that is still unsent is replaced."""
        if not self._closing:
            self._latest[topic] = text
            self._changed.set()

    def end(self) -> None:
        """Takes nothing more; `run` ends when all that was queued is written."""
        self._closing = True
        self._changed.set()

    async def close(self, code: int, reason: str) -> None:
        """Writes what is queued, then closes the socket; waits for both."""
        self.end()
        await self._written.wait()
        await self._ws.close(code=code, message=reason.encode())

    def abort(self) -> None:
        """Cuts the connection, with what is unsent."""
        self._closing = True
        self._transport.abort()

    async def cut_off(self, text: str, after_s: float) -> None:
        """Reads no more, writes what is queued and the text, and cuts the connection after so long.

        A closing handshake would have to read all that the client still sends.
        """
        stop_reading(self._transport)
        self.send(text)
        self.end()
        await asyncio.sleep(after_s)
        self._transport.abort()
        # Closed for aiohttp too, which else would find out when nobody looks any more at what that leaves.
        await self._ws.close()

    async def run(self) -> None:
        """Writes until all is written and the outbox ended, or until the socket is gone."""
        try:
            while self._texts or self._latest or not self._closing:
                await self._changed.wait()
                self._changed.clear()
                while self._texts:
                    text = self._texts.popleft()
                    await self._ws.send_str(text)
                    self._queued_bytes -= len(text.encode())
                while self._latest:
                    await self._ws.send_str(self._latest.pop(next(iter(self._latest))))
        except ConnectionError:
            # The reading side learns it too, and cleans up.
            self._closing = True
        finally:
            self._written.set()
