"""How much clients may use. A request that exceeds a limit gets an error, and costs next to nothing more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import msgspec
from aiohttp import hdrs, web

from ..process.figures import Figures
from ..process.refusal import Refused
from ..process.turns import Turns
from ..settings.model import Settings
from ..streams.stream import Stream, find
from .tcp_ports import address_key

RETRY_AFTER_S = 5
UNPACED_PATHS = {"/health"}
"""Answered without waiting for a turn, so that a monitor does not take a queue for a failure."""

_REFUSALS = ("connections", "connections_of_address", "messages", "sdp", "negotiations", "streams", "receivers", "idle")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenBucket:
    """A rate limit: `rate_per_s` in the long run and `burst` at once. All times are seconds of the same clock."""

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._filled_s = now_s

    def take(self, now_s: float) -> bool:
        """Takes one token; False when there is none."""
        self._level = min(self._burst, self._level + (now_s - self._filled_s) * self._rate_per_s)
        self._filled_s = now_s
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Limits:
    """Refuses, counts and paces; the registry of streams is the server's."""

    def __init__(self, settings: Settings, streams: Mapping[str, Stream], waiting: Collection[str] = ()) -> None:
        """`waiting`: ids of the receivers that no stream counts now, as the server keeps them."""
        self.negotiations = 0
        """In progress or waiting for their turn."""
        self.refused: Counter[str] = Counter(dict.fromkeys(_REFUSALS, 0))
        self._limits = settings.limits
        self._max_connections = settings.server.max_connections
        self._streams = streams
        self._waiting = waiting
        self._connections = 0
        self._connections_of_address: Counter[str] = Counter()
        self._closed = False
        # One request and one negotiation per turn of the event loop: in between, packets are forwarded.
        self._request_turns = Turns()
        self._negotiation_turns = Turns()

    def close(self) -> None:
        """Refuses every new client, as the server is stopping."""
        self._closed = True

    def figures(self) -> Figures:
        """For `/metrics`: the limits, what they refused, and how much is in use."""
        settings = {f"limit_{name}": value for name, value in msgspec.structs.asdict(self._limits).items()}
        refused = {f"refused_{name}": count for name, count in self.refused.items()}
        return {"negotiations": self.negotiations, **refused, **settings, "limit_connections": self._max_connections}

    @contextmanager
    def connection(self, address: str) -> Iterator[None]:
        """Counts a client while the block runs. Raises 503 if there are too many, 429 if they are of one address."""
        key = address_key(address)
        if self._connections >= self._max_connections or self._closed:
            self.refused["connections"] += 1
            raise web.HTTPServiceUnavailable(text="Too many connections: try again later.\n", headers=_retry_later())
        if self._connections_of_address[key] >= self._limits.connections_per_address:
            self.refused["connections_of_address"] += 1
            text = "Too many connections from this address: close another page, or try again later.\n"
            raise web.HTTPTooManyRequests(text=text, headers=_retry_later())
        self._connections += 1
        self._connections_of_address[key] += 1
        try:
            yield
        finally:
            self._connections -= 1
            self._connections_of_address[key] -= 1
            if not self._connections_of_address[key]:
                del self._connections_of_address[key]

    def check_open(self) -> None:
        """Raises 503 when the server is stopping: for a client that was let in before, and waited since."""
        if self._closed:
            raise web.HTTPServiceUnavailable(text="The server is stopping: try again later.\n", headers=_retry_later())

    def check_sdp(self, sdp: str) -> None:
        """Raises Refused `sdp_too_long`."""
        if len(sdp) > self._limits.max_sdp_characters:
            self.refused["sdp"] += 1
            text = f"More than {self._limits.max_sdp_characters} characters of SDP are not taken"
            raise Refused("sdp_too_long", text)

    def check_stream(self, stream_id: str | None, replaced_id: str | None = None) -> None:
        """Raises Refused `too_many_streams` when the stream would be one more and the limit is reached.

        It is none where it is there already, or where the one that it replaces is.
        """
        limit = self._limits.max_streams
        is_more = find(self._streams, stream_id) is None and find(self._streams, replaced_id) is None
        own = sum(1 for stream in self._streams.values() if not stream.is_remote)
        if own >= limit and is_more:
            raise self._refusal("streams", f"There are {limit} streams: no more are taken now")

    def check_receivers(self) -> None:
        """Raises Refused `too_many_receivers` when the limit is reached."""
        limit = self._limits.max_receivers
        receivers = sum(len(stream.receivers) for stream in self._streams.values()) + len(self._waiting)
        if receivers >= limit:
            raise self._refusal("receivers", f"There are {limit} receivers: no more are taken now")

    def check_negotiations(self) -> None:
        """Raises Refused `too_many_negotiations` when the limit is reached."""
        if self.negotiations >= self._limits.max_negotiations:
            raise self._refusal("negotiations", "The server is busy: try again in some seconds")

    @asynccontextmanager
    async def negotiation(self) -> AsyncIterator[None]:
        """Waits for a turn to work on a session description, which costs milliseconds; counted while the block runs.

        What was checked before must be checked again in the block, as others had their turn meanwhile.
        """
        self.negotiations += 1
        try:
            await turn(self._negotiation_turns)
            yield
        finally:
            self.negotiations -= 1

    @web.middleware
    async def pace(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """One request per turn of the event loop."""
        if request.path not in UNPACED_PATHS:
            await turn(self._request_turns)
        return await handler(request)

    def _refusal(self, what: str, text: str) -> Refused:
        self.refused[what] += 1
        return Refused(f"too_many_{what}", text)


async def turn(turns: Turns) -> None:
    """Waits for a turn of `turns`."""
    due: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        # The task that waits may have been cancelled, and its future with it.
        if not due.done():
            due.set_result(None)

    turns.add(wake)
    await due


def _retry_later() -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)}
