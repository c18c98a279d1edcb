"""Who may do what: origins of web pages, tokens with scopes, and Home Assistant's ingress.

Tokens never leave this module: refusals, figures and log lines do not contain them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from ..settings.model import AccessSettings, Settings
from ..streams.grants import EVERYTHING, Grant, Scope
from .forwarded import Route, TrustedProxies
from .hosts import Hosts, host_of
from .tokens import grant_of, signed_grant
from .wrong_tokens import WrongTokens

logger = logging.getLogger(__name__)

_SAFE_METHODS = {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS}
"""RFC 9110 section 9.2.1: these change nothing."""
_CHALLENGE = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="voice"'}
"""RFC 6750 section 3."""
_NODE = Grant(frozenset({Scope.RECEIVE}), is_node=True)
MOST_ORIGINS_LOGGED = 32
"""A page that is refused is a mistake of the settings more often than an attack, and it cannot show why itself."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """Authenticates requests by the settings. Without tokens everybody may do everything: the network is trusted."""

    def __init__(self, settings: Settings) -> None:
        self.unauthorized = 0
        """Requests refused for lack of a token with the scope and the stream."""
        self.foreign_origins = 0
        """Requests refused because of their Origin."""
        self.foreign_hosts = 0
        """Requests by a name of the public DNS that nobody configured."""
        self.hosts = Hosts([*settings.server.names, *settings.server.tls_names])
        self.node_secrets: Callable[[], tuple[str, ...]] = tuple
        """By which the other servers of a cluster are known."""
        self._settings = settings.access
        self._ingress_port = settings.server.ingress_port
        self._proxies = TrustedProxies(settings.access.trusted_proxies)
        self._wrong_tokens = WrongTokens()
        self._origins_logged: set[str] = set()
        self._origins = {origin.lower() for origin in settings.access.allowed_origins}
        self._opaque: list[tuple[bytes, Grant]] = []
        self._secret = ""
        self.use_tokens(settings.access)

    def use_tokens(self, settings: AccessSettings) -> None:
        """From now on `tokens` and `token_secret` of these count; sockets that are open keep their grant."""
        self._opaque = [
            (_digest(token.token), grant_of(token.scopes, token.streams or None, token.rooms or None))
            for token in settings.tokens
        ]
        self._secret = settings.token_secret

    @property
    def wants_tokens(self) -> bool:
        return bool(self._opaque or self._secret)

    def route(self, request: web.Request) -> Route:
        """Where the request came from, and by which scheme and host: behind ingress and trusted proxies, theirs."""
        if not self._is_ingress(request):
            return self._proxies.route(request)
        headers = request.headers
        # Each proxy appends whom it saw; the last entry is the Supervisor's, which saw Home Assistant.
        hops = [hop.strip() for hop in headers.get(hdrs.X_FORWARDED_FOR, "").split(",")]
        host = headers.get(hdrs.X_FORWARDED_HOST) or headers.get(hdrs.HOST) or ""
        scheme = headers.get(hdrs.X_FORWARDED_PROTO) or request.scheme
        return Route(hops[-2] if len(hops) > 1 else hops[-1], host, scheme)

    def client_address(self, request: web.Request) -> str:
        """What counts as the client's address in limits and in the log."""
        return self.route(request).address

    def path_prefix(self, request: web.Request) -> str:
        """What stands before our paths in the client's address, as ingress or a trusted proxy has it."""
        if self._is_ingress(request):
            return request.headers.get("X-Ingress-Path", "").rstrip("/")
        if (request.remote or "") in self._proxies:
            return request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
        return ""

    def check_origin(self, request: web.Request) -> None:
        """Raises 403 for a page from elsewhere. Native clients send no Origin and are not stopped."""
        if not self.is_own_page(request):
            origin, here = request.headers[hdrs.ORIGIN], self.route(request).host
            self.foreign_origins += 1
            text = (
                f"A page of {origin[:300]!a} may not use {here[:300]!a}: add that origin to "
                "access.allowed_origins; if both are this server, behind a proxy, name the proxy in "
                "access.trusted_proxies."
            )
            self._log_origin(origin, text)
            raise web.HTTPForbidden(text=f"{text}\n")

    def check_host(self, request: web.Request) -> None:
        """Raises 421 for a name of the public DNS that nobody configured; ingress has a rule of its own."""
        route = self.route(request)
        is_vouched_for = self._is_ingress(request) or (request.remote or "") in self._proxies
        if is_vouched_for or self.hosts.knows(route.host):
            return
        self.foreign_hosts += 1
        text = (
            f"This server does not answer by the name {route.host[:300]!a}: add it to server.names (or to "
            "server.tls_names, for its certificate too), or name your proxy in access.trusted_proxies.\n"
        )
        raise web.HTTPMisdirectedRequest(text=text)

    def is_own_page(self, request: web.Request) -> bool:
        """Whether it is of the server's own host, on any port, or one that is allowed, or of no page at all."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return True
        here = host_of(self.route(request).host)
        return here is not None and _host_of_origin(origin) == here

    def grant(self, request: web.Request) -> Grant:
        """What the request's token allows. Raises 401 without a valid one."""
        token = _token(request)
        if token is not None and self._is_of_node(token):
            return _NODE
        if not self.wants_tokens:
            return EVERYTHING
        if token is None and self.is_user_of_ingress(request):
            return Grant(frozenset({Scope.SEND, Scope.RECEIVE}))
        grant = self._check(token) if token is not None else None
        if grant is None:
            self.unauthorized += 1
            if token is not None:
                self._wrong_tokens.note(self.client_address(request))
            text = "This server wants a token: add ?token=... to the address, or send Authorization: Bearer ...\n"
            raise web.HTTPUnauthorized(text=text, headers=_CHALLENGE)
        return grant

    def is_user_of_ingress(self, request: web.Request) -> bool:
        """Whether it is of a user that is logged in to Home Assistant: the Supervisor says so, and lets nobody else."""
        return self._is_ingress(request) and bool(request.headers.get("X-Remote-User-Id"))

    def require(self, request: web.Request, scope: Scope, stream_id: str | None = None) -> Grant:
        """The request's grant, which has the scope and covers the stream, if one is given. Raises 401 or 403."""
        grant = self.grant(request)
        if scope not in grant.scopes or (stream_id is not None and not grant.covers(stream_id)):
            self.unauthorized += 1
            raise web.HTTPForbidden(text=f"This needs a token with the scope {scope.value} that covers the stream.\n")
        return grant

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware that checks the host, and the origin of requests that change something.

        Whoever tries many tokens waits for each answer.
        """
        self.check_host(request)
        if request.method not in _SAFE_METHODS:
            self.check_origin(request)
        try:
            return await handler(request)
        except web.HTTPUnauthorized:
            if _token(request) is not None:
                await asyncio.sleep(self._wrong_tokens.delay_s(self.client_address(request)))
            raise

    def _is_ingress(self, request: web.Request) -> bool:
        transport = request.transport
        if not self._ingress_port or transport is None:
            return False
        own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        return bool(own and peer and own[1] == self._ingress_port and peer[0] == self._settings.ingress_address)

    def _log_origin(self, origin: str, text: str) -> None:
        if len(self._origins_logged) < MOST_ORIGINS_LOGGED and origin not in self._origins_logged:
            self._origins_logged.add(origin)
            logger.warning("%s", text)

    def _is_of_node(self, token: str) -> bool:
        digest = _digest(token) if token.isascii() else b""
        found = False
        for secret in self.node_secrets():
            # Each in constant time, and all of them.
            found |= hmac.compare_digest(digest, _digest(secret))
        return found

    def _check(self, token: str) -> Grant | None:
        if not token.isascii():
            return None
        digest = _digest(token)
        found = None
        for known, grant in self._opaque:
            # All are compared, each in constant time, so that the time taken reveals nothing.
            if hmac.compare_digest(digest, known):
                found = grant
        if found is None and self._secret:
            found = signed_grant(token, self._secret)
        return found


def _token(request: web.Request) -> str | None:
    kind, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return request.query.get("token")


def _digest(token: str) -> bytes:
    """A hash, whose length does not depend on the token's."""
    return hashlib.sha256(token.encode()).digest()


def _host_of_origin(origin: str) -> str | None:
    return host_of(origin) if "://" in origin else None
