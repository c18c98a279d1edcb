"""`GET /api/rooms`: the rooms, who stands in them and who talks there."""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web

from ..access.access import Access
from ..streams.grants import Scope
from ..streams.rooms import Rooms


class RoomsApi:
    """For clients without a WebSocket; the others have `subscribe_rooms`."""

    def __init__(self, rooms: Rooms, access: Access) -> None:
        self._rooms = rooms
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/rooms", self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        """Those that the request's token covers. Raises 401 or 403."""
        grant = self._access.grant(request)
        if not grant.scopes & {Scope.SEND, Scope.RECEIVE}:
            raise web.HTTPForbidden(text="This needs a token with the scope send or receive.\n")
        states = [self._rooms.state(room, grant) for room in self._rooms.visible(grant)]
        body = msgspec.json.encode({"rooms": states})
        return web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-store"})
