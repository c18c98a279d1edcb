"""Access, limits and TCP ports, which both servers and all of their ports share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import hdrs, web, web_response

from ..process.failures import Failures
from ..process.figures import Figures
from ..settings.model import Settings
from ..streams.grants import Grant
from ..streams.stream import Stream
from .access import Access
from .ingress import ingress_guard
from .limits import Limits
from .tcp_ports import TcpPorts

web_response.SERVER_SOFTWARE = ""  # type: ignore[attr-defined]
"""aiohttp 3.14 has no setting for it, and answers what is no HTTP before any application is asked: with an empty
`Server` then. `test_no_answer_tells_what_serves` proves that it is needed."""


class Admission:
    """`access`: who may do what. `limits`: how much clients may use. `ports`: the listening TCP sockets."""

    def __init__(
        self,
        settings: Settings,
        streams: Mapping[str, Stream],
        failures: Failures | None = None,
        waiting: Collection[str] = (),
    ) -> None:
        """`waiting`: see `Limits`."""
        self.access = Access(settings)
        self._ingress_guard = ingress_guard(settings.server.ingress_port, settings.access.ingress_address)
        self.limits = Limits(settings, streams, waiting)
        self.ports = TcpPorts(settings, failures)

    @contextmanager
    def enter(self, request: web.Request) -> Iterator[Grant]:
        """Counts a WebSocket while the block runs, which gets its client's grant. Raises 401, 403, 429 or 503."""
        self.access.check_origin(request)
        grant = self.access.grant(request)
        with self.limits.connection(self.access.client_address(request)):
            yield grant

    def application(self) -> web.Application:
        """An application whose middlewares admit and pace requests."""
        application = web.Application(middlewares=(self._ingress_guard, self.limits.pace, self.access.guard))
        application.on_response_prepare.append(_leave_out_banner)
        return application

    def close(self) -> None:
        """Refuses new WebSockets and accepts no more TCP connections."""
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


async def _leave_out_banner(request: web.Request, response: web.StreamResponse) -> None:
    """Which versions of Python and aiohttp run here is of use to attackers alone."""
    response.headers.popall(hdrs.SERVER, None)
