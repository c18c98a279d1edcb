"""The port that only Home Assistant's ingress may use.

Ingress lets in only users of Home Assistant, and what comes through its port is theirs: hence nobody else may.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

INGRESS_ADDRESSES = frozenset({"172.30.32.2", "127.0.0.1"})
"""The Supervisor's address on every Home Assistant (its documentation of ingress names it), and this machine's own."""


def ingress_guard(ingress_port: int) -> Middleware:
    """A middleware that answers 403 to whoever comes through that port and is not Home Assistant."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _port(request) == ingress_port and request.remote not in INGRESS_ADDRESSES:
            raise web.HTTPForbidden(text="This port is for Home Assistant alone. Use the address that the log shows.\n")
        return await handler(request)

    return guard


def _port(request: web.Request) -> int | None:
    """The port of ours that the request came through."""
    here = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return here[1] if here else None
