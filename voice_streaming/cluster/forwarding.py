"""Requests for what another node has, passed on to it."""

from __future__ import annotations

import aiohttp
from aiohttp import hdrs, web

from .entries import NodeEntry

TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
"""Of a request and of its answer: what is passed on are a few lines of SDP."""
_REQUEST_HEADERS = (hdrs.CONTENT_TYPE, hdrs.IF_MATCH, hdrs.ACCEPT)
_ANSWER_HEADERS = (hdrs.CONTENT_TYPE, hdrs.ETAG, hdrs.RETRY_AFTER, hdrs.ALLOW)


def tls_of(node: NodeEntry) -> aiohttp.Fingerprint | bool:
    """What is taken for the node: with its own certificate, that alone."""
    return aiohttp.Fingerprint(bytes.fromhex(node.fingerprint)) if node.fingerprint else True


async def forward(http: aiohttp.ClientSession, request: web.Request, node: NodeEntry) -> web.Response:
    """The node's answer. The session's address alone tells who may ask, so that nothing else is vouched for.

    Raises 413 and 502.
    """
    body = await request.content.read(MAX_BYTES + 1) if request.can_read_body else b""
    if len(body) > MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BYTES, len(body))
    headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    url = node.url + request.raw_path
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with http.request(
            request.method, url, data=body, headers=headers, ssl=tls_of(node), timeout=timeout, allow_redirects=False
        ) as answer:
            content = await answer.content.read(MAX_BYTES)
            kept = {name: answer.headers[name] for name in _ANSWER_HEADERS if name in answer.headers}
            return web.Response(status=answer.status, body=content, headers=kept)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise web.HTTPBadGateway(text=f"The server {node.name}, which has this session, does not answer.\n") from None
