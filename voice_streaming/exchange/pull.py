"""A stream of another server, published here."""

from __future__ import annotations

import asyncio
import contextlib

from ..sessions.claim import Claim
from ..sessions.publish_session import PublishSession
from ..streams.stream import Stream
from .endpoint import Endpoint
from .link import Link, LinkState, Services

DEMAND_WAIT_S = 5.0
"""How long whoever asks for a stream waits for its first packet."""
HURRY_S = 2.0
"""The longest wait between two attempts while the stream waits for its source: it would end in
`webrtc.resume_grace_s`, and those who receive it hear nothing."""
LINGER_S = 10.0
"""How long a pull on demand goes on after its last receiver: a page that is loaded again comes back."""


class Pull(Link):
    """Plays the stream of a WHEP endpoint, and publishes it under `name`.

    With `on_demand` only while somebody receives it here: `demand` begins it.
    """

    direction = "pull"
    via = "whep"
    check_s = 1.0

    def __init__(self, name: str, endpoint: Endpoint, *, on_demand: bool) -> None:
        super().__init__(name, endpoint)
        self.on_demand = on_demand
        self._demanded = asyncio.Event()
        self._settled = asyncio.Event()
        """The stream is live, or an exchange has failed."""
        self._used_s = 0.0
        """By the clock of the event loop, when somebody last received it."""
        self._payload_bytes = 0
        if not on_demand:
            self._demanded.set()

    async def demand(self) -> None:
        """Returns when the stream is live or cannot be had now, within DEMAND_WAIT_S."""
        if self.state is LinkState.WAITING:
            return
        if self.state is LinkState.IDLE:
            self._settled.clear()
        self._demanded.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEMAND_WAIT_S):
                await self._settled.wait()

    def on_live(self) -> None:
        """The stream is live, whoever publishes it."""
        self._settled.set()

    async def _wait_until_wanted(self, services: Services) -> None:
        await self._demanded.wait()

    async def _exchange(self, services: Services) -> None:
        session = self._connection.session
        if not isinstance(session, PublishSession):
            session = await services.sessions.publish(self._connection, Claim(self.name))
        self._used_s = asyncio.get_running_loop().time()
        await self._connect(services, session)
        self._demanded.clear()
        await services.sessions.release(self._connection, "idle")

    def _is_wanted(self, services: Services) -> bool:
        stream, now_s = self._stream(services), asyncio.get_running_loop().time()
        if not self.on_demand:
            if stream is not None:
                # It is never idle: the setting wants it.
                stream.consumers.add(self)
            return True
        if stream is not None and stream.is_consumed:
            self._used_s = now_s
        return now_s - self._used_s <= LINGER_S

    def _is_heard(self, services: Services) -> bool:
        stream = self._stream(services)
        before, self._payload_bytes = self._payload_bytes, stream.track.payload_bytes if stream is not None else 0
        return self._payload_bytes != before

    def _longest_wait_s(self, services: Services) -> float:
        stream = self._stream(services)
        return HURRY_S if stream is not None and stream.is_live else super()._longest_wait_s(services)

    async def _give_up(self, services: Services, *, has_answered: bool) -> None:
        """A live stream waits for its source as for any sender, a server that starts anew and its own senders included.

        Unless the other server closed it in due form, and is there and has it no more.
        """
        stream = self._stream(services)
        is_over = has_answered and self._connection.has_left
        if stream is not None and stream.is_live and not is_over:
            services.streams.pause(stream, "source lost")
        else:
            await services.sessions.release(self._connection, "source ended")
            if self.on_demand:
                self._demanded.clear()
        self._settled.set()

    def _stream(self, services: Services) -> Stream | None:
        """What it publishes."""
        stream = services.streams.find(self._connection.stream_id)
        return stream if stream is not None and stream.sender_id == self._connection.id else None
