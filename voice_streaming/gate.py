"""Who gets in, and how much they may use: what both servers and all of their ports share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from .access import Access, Grant
from .config import Settings
from .doors import Doors
from .ingress import ingress_guard
from .limits import Limits
from .metrics import Figures
from .registry import Connection, Stream


class Gate:
    """`access` says who, `limits` how much, `doors` are the ports."""

    def __init__(
        self, settings: Settings, connections: Mapping[str, Connection[Any]], streams: Mapping[str, Stream]
    ) -> None:
        self.access = Access(settings.access, settings.server.ingress_port)
        self._ingress_guard = ingress_guard(settings.server.ingress_port)
        self.limits = Limits(settings, connections, streams)
        self.doors = Doors(settings)

    @contextmanager
    def enter(self, request: web.Request) -> Iterator[Grant]:
        """A WebSocket's place while the block runs, and what its client may do. Raises 401, 403, 429 or 503."""
        self.access.check_origin(request)
        grant = self.access.grant(request)
        with self.limits.place(self.access.client_address(request)):
            yield grant

    def application(self) -> web.Application:
        """One that admits requests as it should."""
        return web.Application(middlewares=(self._ingress_guard, self.limits.pace, self.access.guard))

    def close(self) -> None:
        """Nobody gets in any more."""
        self.limits.close()
        self.doors.stop_listening()

    def figures(self) -> Figures:
        doors = self.doors
        return {
            "tcp_connections": doors.connections,
            "limit_tcp_connections": doors.max_connections,
            "refused_tcp_connections": doors.refused_in_all,
            "refused_tcp_connections_of_address": doors.refused_of_address,
            "refused_unauthorized": self.access.unauthorized,
            "refused_origins": self.access.foreign_origins,
            **self.limits.figures(),
        }
