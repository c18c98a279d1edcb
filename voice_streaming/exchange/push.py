"""A stream of this server, published at another one as well."""

from __future__ import annotations

import asyncio

from .endpoint import Endpoint
from .link import Link, Services


class Push(Link):
    """Publishes the stream `name` at a WHIP endpoint, for as long as it is live."""

    direction = "push"
    via = "whip"
    check_s = 5.0

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        super().__init__(name, endpoint)
        self._live = asyncio.Event()

    def on_live(self) -> None:
        self._live.set()

    def on_ended(self) -> None:
        self._live.clear()

    async def _wait_until_wanted(self, services: Services) -> None:
        await self._live.wait()

    async def _exchange(self, services: Services) -> None:
        await self._connect(services, await services.sessions.subscribe_anew(self._connection, self.name))

    def _is_wanted(self, services: Services) -> bool:
        return self._live.is_set()

    async def _give_up(self, services: Services, *, has_answered: bool) -> None:
        await services.sessions.release(self._connection, "left")
