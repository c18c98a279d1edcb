"""Who gets in, and how much they may use: what both servers and all of their ports share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from ..process.figures import Figures
from ..settings.model import Settings
from ..streams.grants import Grant
from ..streams.stream import Stream
from .access import Access
from .ingress import ingress_guard
from .limits import Limits
from .tcp_ports import TcpPorts


class Admission:
    """`access` says who, `limits` how much, `ports` are the TCP ports."""

    def __init__(self, settings: Settings, streams: Mapping[str, Stream]) -> None:
        self.access = Access(settings)
        self._ingress_guard = ingress_guard(settings.server.ingress_port, settings.access.ingress_address)
        self.limits = Limits(settings, streams)
        self.ports = TcpPorts(settings)

    @contextmanager
    def enter(self, request: web.Request) -> Iterator[Grant]:
        """Counts a WebSocket while the block runs; gives what its client may do. Raises 401, 403, 429 or 503."""
        self.access.check_origin(request)
        grant = self.access.grant(request)
        with self.limits.connection(self.access.client_address(request)):
            yield grant

    def application(self) -> web.Application:
        """An application whose middlewares admit and pace requests."""
        return web.Application(middlewares=(self._ingress_guard, self.limits.pace, self.access.guard))

    def close(self) -> None:
        """Nobody gets in any more."""
        self.limits.close()
        self.ports.stop_listening()

    def figures(self) -> Figures:
        ports = self.ports
        return {
            "tcp_connections": ports.connections,
            "limit_tcp_connections": ports.max_connections,
            "refused_tcp_connections": ports.refused_in_all,
            "refused_tcp_connections_of_address": ports.refused_of_address,
            "refused_unauthorized": self.access.unauthorized,
            "refused_origins": self.access.foreign_origins,
            "refused_hosts": self.access.foreign_hosts,
            **self.limits.figures(),
        }
