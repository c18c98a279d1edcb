"""Reads the messages of clients: in order, one at a time, at a limited rate."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, WSMsgType, web

from ..access.limits import Limits, TokenBucket, turn
from ..process.turns import Turns
from ..sessions.states import Role
from ..settings.model import LimitSettings
from . import messages
from .client import Client

FLOOD_PENALTY_S = 2.0
"""How long a client that sends too much is not read before it is cut off, so that it cannot come back at once."""

CLOSE_TIMEOUT_S = 5.0
"""For the closing handshake of an idle socket: its client may not answer it."""

_NEGOTIATING = (messages.WebrtcOffer, messages.StartReceiving, messages.WebrtcAnswer)
"""These cost milliseconds each."""

Handle = Callable[[str], Awaitable[None]]


class Conversations:
    """Reads the messages of all clients."""

    def __init__(self, settings: LimitSettings, limits: Limits, clients: Mapping[str, Client]) -> None:
        self._settings = settings
        self._limits = limits
        self._clients = clients
        self._turns = Turns()

    async def converse(self, ws: web.WebSocketResponse, client: Client, handle: Handle) -> None:
        """Handles the client's messages one after the other, until it leaves or sends too many.

        Messages are counted as they come and handled when their turn comes, so that a flood ends before it is handled.
        `ws` is not to answer pings by itself: they count too.
        """
        bucket = TokenBucket(self._settings.messages_per_s, self._settings.message_burst, time.monotonic())
        waiting: deque[str] = deque()
        worker: asyncio.Task[None] | None = None
        try:
            async for frame in ws:
                client.heard_s = time.monotonic()
                if not bucket.take(client.heard_s) or len(waiting) >= self._settings.message_burst:
                    waiting.clear()
                    await self._cut_off(client)
                    return
                if frame.type is WSMsgType.TEXT:
                    waiting.append(frame.data)
                    if worker is None or worker.done():
                        worker = asyncio.create_task(self._work(waiting, handle), name=f"messages-{client.id}")
                elif frame.type is WSMsgType.PING:
                    await ws.pong(frame.data)
                elif frame.type is WSMsgType.BINARY:
                    client.send(messages.Error("bad_message", "Messages are JSON in text frames"))
        finally:
            waiting.clear()
            if worker is not None:
                # What has begun is finished: half of it would leave something open.
                await worker
            if (error := ws.exception()) is not None:
                # It holds the frames that hold the socket that holds it: a reference cycle that only the garbage
                # collector would find.
                error.__traceback__ = error.__context__ = None

    async def close_idle(self) -> None:
        """Closes the sockets that have been of no use for `limits.idle_socket_s`."""
        before_s = time.monotonic() - self._settings.idle_socket_s
        idle = [client for client in self._clients.values() if client.is_idle and client.heard_s < before_s]
        self._limits.refused["idle"] += len(idle)
        for client in idle:
            client.send(messages.Error("idle", "This connection was not used for a long time"))
        await asyncio.gather(*(self._close(client) for client in idle))

    async def _close(self, client: Client) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.ws.close(WSCloseCode.OK, "idle")
        except TimeoutError:
            client.ws.abort()

    @asynccontextmanager
    async def admit(self, message: messages.AnyClientMessage, client: Client) -> AsyncIterator[None]:
        """Waits for the message's turn, if it is one that costs much. Raises Refused when it asks for too much."""
        self._check(message, client)
        if not isinstance(message, _NEGOTIATING):
            yield
            return
        async with self._limits.negotiation():
            # Those that were before it may have been the last for whom there was room.
            self._check_capacity(message, client)
            yield

    async def _work(self, waiting: deque[str], handle: Handle) -> None:
        while waiting:
            await turn(self._turns)
            if waiting:
                await handle(waiting.popleft())

    async def _cut_off(self, client: Client) -> None:
        self._limits.refused["messages"] += 1
        text = f"More than {self._settings.messages_per_s:g} messages a second are not taken: connect again later"
        await client.ws.cut_off(messages.Error("too_many_messages", text).text, FLOOD_PENALTY_S)

    def _check(self, message: messages.AnyClientMessage, client: Client) -> None:
        if isinstance(message, messages.WebrtcOffer):
            self._limits.check_sdp(message.offer.sdp)
        elif isinstance(message, messages.WebrtcAnswer):
            self._limits.check_sdp(message.answer.sdp)
        self._check_capacity(message, client)
        # An answer belongs to an offer that was let in.
        if isinstance(message, messages.WebrtcOffer | messages.StartReceiving):
            self._limits.check_negotiations()

    def _check_capacity(self, message: messages.AnyClientMessage, client: Client) -> None:
        if isinstance(message, messages.StartSending):
            # What the client publishes until now ends when it begins another.
            published_id = client.stream_id if client.role is Role.SENDER else None
            self._limits.check_stream(message.name, published_id)
        elif isinstance(message, messages.WebrtcOffer):
            self._limits.check_stream(client.stream_id)
        elif isinstance(message, messages.StartReceiving) and client.role is not Role.RECEIVER:
            self._limits.check_receivers()
