"""How much clients may use. Who asks for more is told so, and costs next to nothing from then on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from . import messages
from .config import Settings
from .doors import address_key
from .metrics import Figures
from .refusal import Refused
from .registry import Connection, Role, Stream
from .turns import Turns

RETRY_AFTER_S = 5
FLOOD_PENALTY_S = 2.0
"""How long a client that sends too much is not read before it is cut off, so that it cannot come back at once."""
UNPACED_PATHS = {"/health"}
"""Answered at once, whatever else waits: whoever watches the server must not take a queue for a failure."""

_NEGOTIATING = (messages.WebrtcOffer, messages.StartReceiving, messages.WebrtcAnswer)
"""These cost milliseconds each."""
_REFUSALS = ("connections", "connections_of_address", "messages", "sdp", "negotiations", "streams", "receivers", "idle")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Handle = Callable[[str], Awaitable[None]]
Client = Connection[Any]


class TokenBucket:
    """Allows `rate_per_s` in the long run and `burst` at once. Times are seconds of one clock."""

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._filled_s = now_s

    def take(self, now_s: float) -> bool:
        """Takes one; False where there is none."""
        self._level = min(self._burst, self._level + (now_s - self._filled_s) * self._rate_per_s)
        self._filled_s = now_s
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Limits:
    """Refuses, counts and paces; both registries are the server's."""

    def __init__(self, settings: Settings, connections: Mapping[str, Client], streams: Mapping[str, Stream]) -> None:
        self.negotiations = 0
        """Under way or waiting for their turn."""
        self.refused: Counter[str] = Counter(dict.fromkeys(_REFUSALS, 0))
        self._limits = settings.limits
        self._max_connections = settings.server.max_connections
        self._connections = connections
        self._streams = streams
        self._places: Counter[str] = Counter()
        self._in_all = 0
        self._closed = False
        # Of each, one at a time and then the voices again, however many wait.
        self._message_turns = Turns()
        self._request_turns = Turns()
        self._negotiation_turns = Turns()

    def close(self) -> None:
        """No more WebSockets: the server is stopping."""
        self._closed = True

    def figures(self) -> Figures:
        """The settings, what was refused by them, and how much is in use; names as in `/metrics`."""
        settings = {f"limit_{name}": value for name, value in msgspec.structs.asdict(self._limits).items()}
        refused = {f"refused_{name}": count for name, count in self.refused.items()}
        return {"negotiations": self.negotiations, **refused, **settings, "limit_connections": self._max_connections}

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """A WebSocket's place while the block runs. Raises 503 if all are taken, 429 if the address has too many."""
        key = address_key(address)
        if self._in_all >= self._max_connections or self._closed:
            self.refused["connections"] += 1
            raise web.HTTPServiceUnavailable(text="Too many connections: try again later.\n", headers=_retry_later())
        if self._places[key] >= self._limits.connections_per_address:
            self.refused["connections_of_address"] += 1
            text = "Too many connections from this address: close another page, or try again later.\n"
            raise web.HTTPTooManyRequests(text=text, headers=_retry_later())
        self._in_all += 1
        self._places[key] += 1
        try:
            yield
        finally:
            self._in_all -= 1
            self._places[key] -= 1
            if not self._places[key]:
                del self._places[key]

    async def converse(self, ws: web.WebSocketResponse, client: Client, handle: Handle) -> None:
        """Handles the client's messages one after the other, until it leaves or sends too many.

        Messages are counted as they come and handled when their turn comes, so that a flood ends before it is handled.
        `ws` is not to answer pings by itself: they count too.
        """
        bucket = TokenBucket(self._limits.messages_per_s, self._limits.message_burst, time.monotonic())
        waiting: deque[str] = deque()
        worker: asyncio.Task[None] | None = None
        try:
            async for frame in ws:
                client.heard_s = time.monotonic()
                if not bucket.take(client.heard_s) or len(waiting) >= self._limits.message_burst:
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
                    client.ws.send(messages.Error("bad_message", "Messages are JSON in text frames").text)
        finally:
            waiting.clear()
            if worker is not None:
                # What has begun is finished: half of it would leave something open.
                await worker
            if (error := ws.exception()) is not None:
                # It holds the frames that hold the socket that holds it: a circle that only the collector would find.
                error.__traceback__ = error.__context__ = None

    async def _work(self, waiting: deque[str], handle: Handle) -> None:
        while waiting:
            await _turn(self._message_turns)
            if waiting:
                await handle(waiting.popleft())

    async def _cut_off(self, client: Client) -> None:
        self.refused["messages"] += 1
        text = f"More than {self._limits.messages_per_s:g} messages a second are not taken: connect again later"
        await client.ws.cut_off(messages.Error("too_many_messages", text).text, FLOOD_PENALTY_S)

    @asynccontextmanager
    async def room_for(self, message: messages.AnyClientMessage, client: Client) -> AsyncIterator[None]:
        """Waits for the message's turn, if it is one that costs much. Raises Refused when it asks for too much."""
        self._check(message, client)
        if not isinstance(message, _NEGOTIATING):
            yield
            return
        self.negotiations += 1
        try:
            await _turn(self._negotiation_turns)
            # Those that were before it may have taken the last place.
            self._check_room(message, client)
            yield
        finally:
            self.negotiations -= 1

    @web.middleware
    async def pace(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """One request per turn of the event loop."""
        if request.path not in UNPACED_PATHS:
            await _turn(self._request_turns)
        return await handler(request)

    async def close_idle(self) -> None:
        """Closes the sockets that have been of no use for `limits.idle_socket_s`."""
        before_s = time.monotonic() - self._limits.idle_socket_s
        idle = [
            client
            for client in self._connections.values()
            if client.role is None and not client.pictures and client.heard_s < before_s
        ]
        self.refused["idle"] += len(idle)
        for client in idle:
            client.ws.send(messages.Error("idle", "This connection was not used for a long time").text)
        await asyncio.gather(*(client.ws.close(WSCloseCode.OK, "idle") for client in idle))

    def _check(self, message: messages.AnyClientMessage, client: Client) -> None:
        limits = self._limits
        if isinstance(message, messages.WebrtcOffer | messages.WebrtcAnswer):
            sdp = message.offer.sdp if isinstance(message, messages.WebrtcOffer) else message.answer.sdp
            if len(sdp) > limits.max_sdp_characters:
                raise self._refusal("sdp", f"More than {limits.max_sdp_characters} characters of SDP are not taken")
        self._check_room(message, client)
        # An answer belongs to an offer that was let in.
        if isinstance(message, _NEGOTIATING[:2]) and self.negotiations >= limits.max_negotiations:
            raise self._refusal("negotiations", "The server is busy: try again in some seconds")

    def _check_room(self, message: messages.AnyClientMessage, client: Client) -> None:
        limits = self._limits
        if isinstance(message, messages.StartSending | messages.WebrtcOffer):
            stream_id = message.name if isinstance(message, messages.StartSending) else client.stream_id
            if stream_id not in self._streams and len(self._streams) >= limits.max_streams:
                raise self._refusal("streams", f"There are {limits.max_streams} streams: no more are taken now")
        if isinstance(message, messages.StartReceiving) and client.role is not Role.RECEIVER:
            receivers = sum(len(stream.receivers) for stream in self._streams.values())
            if receivers >= limits.max_receivers:
                raise self._refusal("receivers", f"There are {limits.max_receivers} receivers: no more are taken now")

    def _refusal(self, what: str, text: str) -> Refused:
        self.refused[what] += 1
        return Refused(f"too_many_{what}" if what != "sdp" else "sdp_too_long", text)


async def _turn(turns: Turns) -> None:
    come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # Whoever waited may be gone by then.
    turns.add(lambda: None if come.done() else come.set_result(None))
    await come


def _retry_later() -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)}
