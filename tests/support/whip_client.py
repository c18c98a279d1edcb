"""A client of WHIP and WHEP, with nothing of WebRTC in it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


class Answer:
    """An HTTP answer that was read to its end."""

    def __init__(self, status: int, headers: CIMultiDictProxy[str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text

    @property
    def location(self) -> str:
        return self.headers["Location"]


class WhipClient:
    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http = http
        self._base = URL(base)

    async def ask(
        self, method: str, path: str, body: str | bytes = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; the path may have a query."""
        url = self._base.join(URL(path, encoded=True))
        async with self._http.request(method, url, data=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.text())

    async def post(self, path: str, offer: str, **headers: str) -> Answer:
        return await self.ask("POST", path, offer, SDP | headers)


@asynccontextmanager
async def whip_client(
    base: str, *, cookies: Mapping[str, str] | None = None, trusting: ssl.SSLContext | None = None
) -> AsyncIterator[WhipClient]:
    """`trusting` is for a server with a certificate of its own."""
    connector = aiohttp.TCPConnector(ssl=trusting if trusting is not None else True)
    async with aiohttp.ClientSession(cookies=cookies, connector=connector) as http:
        yield WhipClient(http, base)
