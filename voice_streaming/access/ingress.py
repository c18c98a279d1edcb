"""The port that only Home Assistant's ingress may use.

Ingress authenticates users of Home Assistant, and requests at its port are trusted to be theirs: so all others must be
kept out.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def ingress_guard(ingress_port: int, ingress_address: str) -> Middleware:
    """A middleware that answers 403 to requests at that port that are not Home Assistant's.

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
