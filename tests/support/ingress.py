"""Home Assistant's way to an add-on's pages: a reverse proxy under a path of its own, and a page that frames it.

It does what Home Assistant and its Supervisor do together: asks for the session's cookie, takes the path's prefix off,
adds `X-Ingress-Path` and the `X-Forwarded-…` headers, passes `Host` and `Origin` on, and streams what has no length.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import WSMsgType, hdrs, web
from multidict import CIMultiDict

from tests.support.ports import free_port

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "content-encoding"}
_FRAME = '<!doctype html><title>Home Assistant</title><iframe id="addon" src="{src}" width="600" height="700"></iframe>'


class Ingress:
    """The proxy of one add-on; `frame_headers` go with the page around the frame."""

    def __init__(self, upstream_port: int, frame_headers: Mapping[str, str]) -> None:
        self.port = free_port()
        self.path = f"/api/hassio_ingress/{secrets.token_urlsafe(32)}"
        self._session = secrets.token_hex(64)
        self._upstream = f"127.0.0.1:{upstream_port}"
        self._frame_headers = frame_headers
        self._http = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))

    @property
    def home(self) -> str:
        """The address of the page around the frame, which starts the session."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def cookies(self) -> dict[str, str]:
        return {"ingress_session": self._session}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}{path}"

    async def close(self) -> None:
        await self._http.close()

    async def frame(self, request: web.Request) -> web.Response:
        response = web.Response(
            text=_FRAME.format(src=f"{self.path}/"), content_type="text/html", headers=self._frame_headers
        )
        response.set_cookie("ingress_session", self._session, path="/api/hassio_ingress/", samesite="Strict")
        return response

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if request.cookies.get("ingress_session") != self._session:
            raise web.HTTPUnauthorized
        path = request.raw_path.removeprefix(self.path)
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("sec-websocket-")
        )
        headers["X-Ingress-Path"] = self.path
        headers[hdrs.X_FORWARDED_FOR] = str(request.remote)
        headers[hdrs.X_FORWARDED_HOST] = request.host
        headers[hdrs.X_FORWARDED_PROTO] = request.scheme
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._forward_socket(request, path, headers)
        return await self._forward_request(request, path, headers)

    async def _forward_request(self, request: web.Request, path: str, headers: CIMultiDict[str]) -> web.StreamResponse:
        async with self._http.request(
            request.method,
            f"http://{self._upstream}{path}",
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as upstream:
            kept = CIMultiDict((n, v) for n, v in upstream.headers.items() if n.lower() not in _HOP_BY_HOP)
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            # Not iter_chunks, which has no end where there is no body, as with 304 (aiohttp 3.14).
            async for data in upstream.content.iter_any():
                await response.write(data)
            return response

    async def _forward_socket(self, request: web.Request, path: str, headers: CIMultiDict[str]) -> web.StreamResponse:
        client = web.WebSocketResponse(autoping=False)
        async with self._http.ws_connect(f"ws://{self._upstream}{path}", headers=headers, autoping=False) as upstream:
            await client.prepare(request)
            ways = [asyncio.create_task(_pass_on(client, upstream)), asyncio.create_task(_pass_on(upstream, client))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await client.close()
        return client


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_on(source: Socket, target: Socket) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await target.ping(message.data)
        elif message.type is WSMsgType.PONG:
            await target.pong(message.data)


@asynccontextmanager
async def ingress(upstream_port: int, frame_headers: Mapping[str, str] | None = None) -> AsyncIterator[Ingress]:
    """The proxy while the block runs."""
    proxy = Ingress(upstream_port, frame_headers or {})
    application = web.Application()
    application.add_routes([web.get("/", proxy.frame), web.route("*", proxy.path + "/{path:.*}", proxy.forward)])
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", proxy.port).start()
    try:
        yield proxy
    finally:
        await runner.cleanup()
        await proxy.close()
