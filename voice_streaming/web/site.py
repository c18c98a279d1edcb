"""The HTTP side of port 8080: pages, their security headers, health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from ..access.access import Access
from ..network.tls import CA_CONTENT_TYPE
from ..process.figures import Figures
from ..streams.grants import Scope
from . import metrics, pages
from .health import http_status
from .qr_code import qr_code_svg
from .static_files import REVALIDATED, STATIC_FOLDER, revalidate_scripts

_PAGES = {
    "/sender": "sender.html",
    "/receiver": "receiver.html",
    "/certificate": "certificate.html",
    "/recordings": "recordings.html",
    "/cluster": "cluster.html",
}

_SECURITY_HEADERS = {
    # Everything comes from this origin, and nothing is inline. WebSockets of the same host are named by scheme, as
    # 'self' does not cover them in every browser (CSP3 section 6.7.2.8). Fallback audio is of the audio port.
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' http: https: blob:; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors {frame_ancestors}"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """Serves pages, health and metrics. `signalling` handles `/ws`, and WebSocket upgrades of `/`."""

    def __init__(
        self,
        signalling: Handler,
        health: Callable[[], Mapping[str, Any]],
        figures: Callable[[], Figures],
        receiver_details: Callable[[], list[dict[str, object]]],
        authority_pem: Callable[[], bytes | None],
        frame_ancestors: str,
        access: Access,
    ) -> None:
        self._signalling = signalling
        self._health = health
        self._figures = figures
        self._receiver_details = receiver_details
        self._authority_pem = authority_pem
        self._access = access
        self._headers = {
            name: value.format(frame_ancestors=frame_ancestors) for name, value in _SECURITY_HEADERS.items()
        }

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self._index),
            *(web.get(path, self._page) for path in _PAGES),
            web.get("/ws", self._signalling),
            web.get("/health", self._answer_health),
            web.get("/metrics", self._answer_metrics),
            web.get("/ca.crt", self._authority),
            web.get("/qr.svg", self._qr_code),
            web.get("/favicon.ico", self._icon),
            *pages.routes(),
        ]

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal handler for `Application.on_response_prepare`."""
        response.headers.update(self._headers)
        await revalidate_scripts(request, response)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._signalling(request)
        return pages.page(request, "index.html")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return pages.page(request, _PAGES[request.path])

    async def _icon(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC_FOLDER / "icon.svg", headers=REVALIDATED)

    async def _qr_code(self, request: web.Request) -> web.Response:
        """`?text=` as a picture."""
        try:
            picture = qr_code_svg(request.query.get("text", ""))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"?text= is wrong: {error}\n") from error
        return web.Response(body=picture, content_type="image/svg+xml")

    async def _authority(self, request: web.Request) -> web.Response:
        pem = self._authority_pem()
        if pem is None:
            raise web.HTTPNotFound(text="This server has no certificate authority of its own")
        disposition = 'attachment; filename="voice-streaming-ca.crt"'
        return web.Response(body=pem, content_type=CA_CONTENT_TYPE, headers={"Content-Disposition": disposition})

    async def _answer_health(self, request: web.Request) -> web.Response:
        health = self._health()
        return web.json_response(health, status=http_status(health["status"]), headers={"Cache-Control": "no-store"})

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        self._access.require(request, Scope.ADMIN)
        figures = self._figures()
        headers, accept = {"Vary": "Accept"}, request.headers.get("Accept", "")
        if metrics.wants_prometheus(accept):
            body, content_type = metrics.prometheus(figures, accept)
            return web.Response(body=body, headers=headers | {"Content-Type": content_type})
        details = {"receiver_details": self._receiver_details()} if request.query.get("details") == "1" else {}
        return web.json_response({**figures, **details}, headers=headers)
