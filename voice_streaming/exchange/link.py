"""What pulls and pushes have in common: one stream's exchange with one other server, begun again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from ..process.refusal import Refused
from ..rtc import LEFT
from ..sessions.connection import Connection
from ..sessions.publish_session import PublishSession
from ..sessions.sessions import Sessions
from ..sessions.states import ConnectionState
from ..sessions.subscribe_session import SubscribeSession
from ..streams.registry import Streams
from .backoff import Backoff
from .endpoint import Endpoint, EndpointError

logger = logging.getLogger(__name__)

STABLE_S = 10.0
"""A link that was up for so long is begun again without the delays of those that fail at once."""


ANSWER_TIMEOUT_S = 1.0
"""How long the other server may take to answer an ICE check."""


class LinkState(enum.Enum):
    IDLE = "idle"
    """Nothing to do: nobody receives what is pulled on demand, or the stream to push is not live."""
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """It failed, and is tried again later."""


class RemoteConnection(Connection):
    """The other server, as a client of ours that publishes or receives."""

    is_server = True

    def __init__(self, via: str, address: str) -> None:
        super().__init__(address=address, via=via)
        self.is_lost = False
        self.reason = ""
        """Why it is lost."""
        self.has_left = False
        """Whether the other server closed it in due form when it was lost last."""
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """Another peer is to connect."""
        self.is_lost, self.reason = False, ""

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """For a condition of `state` and `is_lost`."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    @property
    def is_connected(self) -> bool:
        return self.state in (ConnectionState.CONNECTED, ConnectionState.STREAMING)

    def advance(self, state: ConnectionState) -> None:
        super().advance(state)
        self._changed.set()

    def on_session_ended(self) -> None:
        self.lose("the session has ended")

    def on_media_lost(self, reason: str) -> None:
        self.lose("the other server closed it" if reason == LEFT else reason, has_left=reason == LEFT)

    def on_stream_ended(self, stream_id: str, reason: str) -> None:
        self.lose(f"the stream ended here: {reason}")

    def lose(self, reason: str, *, has_left: bool = False) -> None:
        """The first reason counts."""
        if not self.is_lost:
            self.is_lost, self.reason, self.has_left = True, reason, has_left
        self._changed.set()


@dataclass(frozen=True)
class Services:
    """What links work with."""

    http: aiohttp.ClientSession
    sessions: Sessions
    streams: Streams


class Link:
    """`run` goes on until it is cancelled, and then ends what there is at both sides."""

    direction: str
    via: str
    check_s: float
    """How often it is looked after while it is connected."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self.name = name
        self.state = LinkState.IDLE
        self.last_error: str | None = None
        self._endpoint = endpoint
        self._connection = RemoteConnection(self.via, endpoint.origin)
        self._backoff = Backoff()

    def describe(self) -> dict[str, object]:
        """As in `/health`."""
        return {
            "name": self.name,
            "direction": self.direction,
            "url": self._endpoint.origin,
            "state": self.state.value,
            "last_error": self.last_error,
        }

    async def run(self, services: Services) -> None:
        try:
            while True:
                self.state = LinkState.IDLE
                await self._wait_until_wanted(services)
                self.state = LinkState.CONNECTING
                delay_s = await self._try(services)
                if delay_s is not None:
                    self.state = LinkState.WAITING
                    await asyncio.sleep(delay_s)
        finally:
            await services.sessions.release(self._connection, "server stopping")

    async def _try(self, services: Services) -> float | None:
        """One exchange, to its end: seconds to wait before the next, None if it is not wanted any more."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        retry_after_s = 0.0
        try:
            await self._exchange(services)
            return None
        except EndpointError as error:
            self._note(str(error))
            retry_after_s = error.retry_after_s
            await self._give_up(services, has_answered=error.has_answered)
        except Refused as refusal:
            self._note(str(refusal))
            await self._give_up(services, has_answered=False)
        if loop.time() - begun_s > STABLE_S and not retry_after_s:
            self._backoff.reset()
        return min(self._backoff.next_s(retry_after_s), self._longest_wait_s(services))

    def _longest_wait_s(self, services: Services) -> float:
        """Before the next exchange, whatever came before."""
        return math.inf

    async def _connect(self, services: Services, session: PublishSession | SubscribeSession) -> None:
        """Offers the session to the other server and stays until it is lost. Raises EndpointError and Refused."""
        connection = self._connection
        connection.begin()
        offer = await session.offer()
        if offer is None:
            raise Refused("stream_ended", "Stream ended")
        remote = await self._endpoint.begin(services.http, offer)
        try:
            await session.accept(remote.answer)
            await connection.wait_until(lambda: connection.is_connected or connection.is_lost)
            if not connection.is_lost:
                self.state = LinkState.CONNECTED
                self.last_error = None
                logger.info("%s of %s: connected to %s", self.direction, ascii(self.name), self._endpoint.origin)
                if not await self._stay(services):
                    return
        finally:
            await self._endpoint.end(services.http, remote)
        raise EndpointError(f"The connection is lost: {connection.reason}")

    async def _exchange(self, services: Services) -> None:
        """Returns when it is not wanted any more. Raises EndpointError and Refused."""
        raise NotImplementedError

    async def _stay(self, services: Services) -> bool:
        """Returns when the connection is lost, or with False when it is not wanted any more."""
        connection = self._connection
        while not connection.is_lost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.check_s):
                    await connection.wait_until(lambda: connection.is_lost)
            if not self._is_wanted(services):
                return False
            peer = connection.pc
            if peer is not None and not self._is_heard(services) and not await peer.answers(ANSWER_TIMEOUT_S):
                connection.lose("it does not answer any more")
        return True

    async def _wait_until_wanted(self, services: Services) -> None:
        raise NotImplementedError

    def _is_wanted(self, services: Services) -> bool:
        """Whether to go on with what is connected."""
        raise NotImplementedError

    def _is_heard(self, services: Services) -> bool:
        """Whether media of the other server has come since the last call."""
        return False

    async def _give_up(self, services: Services, *, has_answered: bool) -> None:
        """An exchange has failed."""
        raise NotImplementedError

    def _note(self, error: str) -> None:
        if error != self.last_error:
            logger.warning("%s of %s at %s: %s", self.direction, ascii(self.name), self._endpoint.origin, error)
        self.last_error = error
