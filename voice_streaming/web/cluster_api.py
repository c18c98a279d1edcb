"""`GET /api/cluster`: which server of the cluster has what."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from ..access.access import Access
from ..streams.grants import Scope
from .problems import problem


class Cluster(Protocol):
    """What is shown."""

    async def overview(self) -> dict[str, object]: ...


class ClusterApi:
    """Names of streams and rooms of everybody: with tokens, for those with the scope admin."""

    def __init__(self, cluster: Cluster | None, access: Access) -> None:
        """`cluster`: None where this server is alone."""
        self._cluster = cluster
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/cluster", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        """Raises 401 or 403; 404 for a server that is alone."""
        self._access.require(request, Scope.ADMIN)
        if self._cluster is None:
            return problem(HTTPStatus.NOT_FOUND, "This server is alone: cluster.url is not set")
        body = msgspec.json.encode(await self._cluster.overview())
        return web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-store"})
