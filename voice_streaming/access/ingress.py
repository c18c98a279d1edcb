"""The port that only Home Assistant's ingress may use.

Ingress lets in only users of Home Assistant, and what comes through its port is theirs: hence nobody else may.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_THIS_MACHINE = "127.0.0.1"
"""The health check asks through this port too."""


def ingress_guard(ingress_port: int, ingress_address: str) -> Middleware:
    """A middleware that answers 403 to whoever comes through that port and is not Home Assistant.

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
    """The port of ours that the request came through."""
    here = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return here[1] if here else None
