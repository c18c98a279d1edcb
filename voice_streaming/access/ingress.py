"""The port that only Home Assistant's ingress may use.

Ingress lets in only users of Home Assistant, and what comes through its port is theirs: hence nobody else may.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def ingress_guard(ingress_port: int, ingress_address: str) -> Middleware:
    """A middleware that answers 403 to whoever comes through that port and is not Home Assistant.

    `ingress_address` is `access.ingress_address`, where Home Assistant's Supervisor is. The machine itself may ask too:
    its health check does.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        here = _own_socket_name(request)
        if here is not None and here[1] == ingress_port and request.remote not in (ingress_address, here[0]):
            raise web.HTTPForbidden(text="This port is for Home Assistant alone. Use the address that the log shows.\n")
        return await handler(request)

    return guard


def _own_socket_name(request: web.Request) -> tuple[str, int] | None:
    """The address and port of ours that the request came to. What comes from the same address is of this machine."""
    here = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return (here[0], here[1]) if here else None
