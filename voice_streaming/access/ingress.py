"""The port that only Home Assistant's ingress may use.

Ingress authenticates users of Home Assistant, and requests at its port are trusted to be theirs: so all others must be
kept out.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_THIS_MACHINE = "127.0.0.1"
"""For the container's health check, which uses this port."""


def ingress_guard(ingress_port: int, ingress_address: str) -> Middleware:
    """A middleware that answers 403 to requests at that port that are not Home Assistant's.

    `ingress_address` is `access.ingress_address`, where Home Assistant's Supervisor is.
    """
    allowed = {ingress_address, _THIS_MACHINE}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _port(request) == ingress_port and request.remote not in allowed:
            raise web.HTTPForbidden(text="This port is for Home Assistant alone. Use the address that the log shows.\n")
        return await handler(request)

    return guard


def _port(request: web.Request) -> int | None:
    """The local port at which the request arrived."""
    local = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return local[1] if local else None
