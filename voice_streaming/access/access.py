"""Who may do what: origins of web pages, tokens with scopes, and Home Assistant's ingress.

Tokens never leave this module: refusals, figures and log lines do not contain them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from ..settings.model import AccessSettings
from ..streams.grants import EVERYTHING, Grant, Scope
from .tokens import grant_of, signed_grant

_SAFE_METHODS = {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS}
"""RFC 9110 section 9.2.1: these change nothing."""
_CHALLENGE = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="voice"'}
"""RFC 6750 section 3."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """Authenticates requests by the settings. Without tokens everybody may do everything: the network is trusted."""

    def __init__(self, settings: AccessSettings, ingress_port: int = 0) -> None:
        """At `ingress_port` headers of ingress are trusted, if `access.ingress_address` sends them; 0 is no port."""
        self.unauthorized = 0
        """Requests refused for lack of a token with the scope and the stream."""
        self.foreign_origins = 0
        """Requests refused because of their Origin."""
        self._settings = settings
        self._ingress_port = ingress_port
        self._origins = {origin.lower() for origin in settings.allowed_origins}
        self._opaque = [
            (_digest(token.token), grant_of(token.scopes, token.streams or None)) for token in settings.tokens
        ]

    @property
    def wants_tokens(self) -> bool:
        return bool(self._opaque or self._settings.token_secret)

    def client_address(self, request: web.Request) -> str:
        """The client's address: through ingress, the address that Home Assistant saw."""
        if self._is_ingress(request):
            # Each proxy appends whom it saw; the last entry is the Supervisor's, which saw Home Assistant.
            hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
            return hops[-2] if len(hops) > 1 else hops[-1]
        return request.remote or ""

    def path_prefix(self, request: web.Request) -> str:
        """What stands before our paths in the client's address: behind ingress, what Home Assistant says."""
        return request.headers.get("X-Ingress-Path", "") if self._is_ingress(request) else ""

    def check_origin(self, request: web.Request) -> None:
        """Raises 403 for a page from elsewhere. Native clients send no Origin and are not stopped."""
        if not self.is_own_page(request):
            self.foreign_origins += 1
            text = "Pages of another site are not served: open this server's own page, or see access.allowed_origins.\n"
            raise web.HTTPForbidden(text=text)

    def is_own_page(self, request: web.Request) -> bool:
        """Whether it is of the server's own host, on any port, or one that is allowed, or of no page at all."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return True
        host = request.headers.get("X-Forwarded-Host") if self._is_ingress(request) else None
        here = _host_name(f"//{host or request.headers.get(hdrs.HOST, '')}")
        return here is not None and _host_name(origin) == here

    def grant(self, request: web.Request) -> Grant:
        """What the request's token allows. Raises 401 without a valid one."""
        if not self.wants_tokens:
            return EVERYTHING
        token = _token(request)
        if token is None and self._is_ingress(request) and request.headers.get("X-Remote-User-Id"):
            # The Supervisor sets this for a user that is logged in, and lets nobody else set it.
            return Grant(frozenset({Scope.SEND, Scope.RECEIVE}))
        grant = self._check(token) if token is not None else None
        if grant is None:
            self.unauthorized += 1
            text = "This server wants a token: add ?token=... to the address, or send Authorization: Bearer ...\n"
            raise web.HTTPUnauthorized(text=text, headers=_CHALLENGE)
        return grant

    def require(self, request: web.Request, scope: Scope, stream_id: str | None = None) -> Grant:
        """The request's grant, which has the scope and covers the stream, if one is given. Raises 401 or 403."""
        grant = self.grant(request)
        if scope not in grant.scopes or (stream_id is not None and not grant.covers(stream_id)):
            self.unauthorized += 1
            raise web.HTTPForbidden(text=f"This needs a token with the scope {scope.value} that covers the stream.\n")
        return grant

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware that checks the origin of requests that change something."""
        if request.method not in _SAFE_METHODS:
            self.check_origin(request)
        return await handler(request)

    def _is_ingress(self, request: web.Request) -> bool:
        transport = request.transport
        if not self._ingress_port or transport is None:
            return False
        own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        return bool(own and peer and own[1] == self._ingress_port and peer[0] == self._settings.ingress_address)

    def _check(self, token: str) -> Grant | None:
        if not token.isascii():
            return None
        digest = _digest(token)
        found = None
        for known, grant in self._opaque:
            # All are compared, each in constant time, so that the time taken reveals nothing.
            if hmac.compare_digest(digest, known):
                found = grant
        if found is None and self._settings.token_secret:
            found = signed_grant(token, self._settings.token_secret)
        return found


def _token(request: web.Request) -> str | None:
    kind, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return request.query.get("token")


def _digest(token: str) -> bytes:
    """A hash, whose length does not depend on the token's."""
    return hashlib.sha256(token.encode()).digest()


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
