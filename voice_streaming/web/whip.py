"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): publishing and receiving a stream by one HTTP request.

A session that is published or received this way is one like any other: `sessions` does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol, TypeVar

from aiohttp import hdrs, web

from ..access.admission import Admission
from ..process.refusal import Refused
from ..sessions.claim import Claim
from ..sessions.publish_session import PublishSession
from ..sessions.sessions import Sessions
from ..sessions.subscribe_session import ReceiveSession
from ..settings.model import Settings
from ..streams.feed import Selection
from ..streams.grants import Grant, Scope
from ..streams.names import name_key, stream_name
from . import sdp_fragments
from .http_sessions import HttpConnection, HttpSessions, PreconditionFailed, PreconditionRequired
from .problems import problem, problem_of

SDP_TYPE = "application/sdp"
RESUME_HEADER = "Stream-Resume-Key"
"""Ours, in answers to publishers and in requests of theirs: the key with which a stream is taken up again."""

_NEWEST = "latest"
_MAX_BYTES_PER_CHARACTER = 4
_ENDPOINT_METHODS = "GET, HEAD, POST, OPTIONS"
_SESSION_METHODS = "GET, HEAD, PATCH, DELETE, OPTIONS"
_KEPT_HEADERS: tuple[str, ...] = (hdrs.WWW_AUTHENTICATE, hdrs.RETRY_AFTER)
"""Of refusals, in problems: what a client needs to do better."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Elsewhere(Protocol):
    """The other servers of a cluster."""

    @property
    def node_id(self) -> str:
        """Of this server."""

    async def forward(self, request: web.Request, node_id: str) -> web.Response:
        """The answer of the server that the request is for. Raises 404 for one that is not there, 502."""


SessionT = TypeVar("SessionT", PublishSession, ReceiveSession)


class WhipEndpoints:
    """`/whip/{stream}`, `/whep/{stream}`, and their sessions below `/whip/sessions/` and `/whep/sessions/`."""

    def __init__(self, settings: Settings, sessions: Sessions, admission: Admission) -> None:
        self.connections = HttpSessions(sessions)
        self._elsewhere: Elsewhere | None = None
        self._settings = settings
        self._sessions = sessions
        self._admission = admission

    @property
    def elsewhere(self) -> Elsewhere | None:
        """With which the ids of sessions name their server: any may be asked for them."""
        return self._elsewhere

    @elsewhere.setter
    def elsewhere(self, elsewhere: Elsewhere | None) -> None:
        self._elsewhere = elsewhere
        self.connections.prefix = f"{elsewhere.node_id}." if elsewhere is not None else ""

    def routes(self) -> list[web.RouteDef]:
        routes = []
        for via, begin in (("whip", self._publish), ("whep", self._subscribe)):
            routes += [
                web.get(f"/{via}/{{stream}}", self._guarded(self._show_endpoint)),
                web.post(f"/{via}/{{stream}}", self._guarded(begin)),
                web.options(f"/{via}/{{stream}}", self._describe_endpoint),
                web.get(f"/{via}/sessions/{{resource}}", self._guarded(self._at_its_server(self._show_session))),
                web.patch(f"/{via}/sessions/{{resource}}", self._guarded(self._at_its_server(self._patch))),
                web.delete(f"/{via}/sessions/{{resource}}", self._guarded(self._at_its_server(self._delete))),
                web.options(f"/{via}/sessions/{{resource}}", self._describe_session),
            ]
        routes += [
            web.post("/whep/room/{room}", self._guarded(self._follow_room)),
            web.options("/whep/room/{room}", self._describe_endpoint),
        ]
        return routes

    def _guarded(self, handler: Handler) -> Handler:
        """Refusals become problems, and every answer says which pages may read it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                response = await handler(request)
            except Refused as refusal:
                response = problem_of(refusal)
            except web.HTTPException as refusal:
                kept = {name: refusal.headers[name] for name in _KEPT_HEADERS if name in refusal.headers}
                response = problem(HTTPStatus(refusal.status), (refusal.text or refusal.reason).strip(), kept)
            response.headers.update(self._cors(request))
            return response

        return handle

    def _at_its_server(self, handler: Handler) -> Handler:
        """A request for a session is answered by the server that has it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            node_id, dot, _ = request.match_info["resource"].partition(".")
            if self._elsewhere is not None and dot and node_id != self._elsewhere.node_id:
                return await self._elsewhere.forward(request, node_id)
            return await handler(request)

        return handle

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        name = stream_name(request.match_info["stream"])
        grant = self._admission.access.require(request, Scope.SEND, name)
        offer = await self._read_offer(request)
        connection = self._new_connection(request, "whip", grant)
        # A token that names the stream is its owner's.
        claim = Claim(name, request.headers.get(RESUME_HEADER), owns_name=grant.streams is not None)
        check = functools.partial(self._admission.limits.check_stream, name)
        begin = functools.partial(self._sessions.publish, connection, claim)
        session, answer = await self._establish(connection, offer, check, begin)
        return self._created(request, connection, answer, {RESUME_HEADER: session.resume_key})

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["stream"]
        name = None if asked == _NEWEST else asked
        grant = self._admission.access.require(request, Scope.RECEIVE, name)
        offer = await self._read_offer(request)
        connection = self._new_connection(request, "whep", grant)
        if grant.is_node:
            selection = Selection(self._own_id(asked), own=True)
            begin: Callable[[], Awaitable[ReceiveSession]]
            begin = functools.partial(self._sessions.follow_anew, connection, selection)
        else:
            await self._sessions.await_stream(connection, name)
            begin = functools.partial(self._sessions.subscribe_anew, connection, name)
        _, answer = await self._establish(connection, offer, self._admission.limits.check_receivers, begin)
        return self._created(request, connection, answer, {})

    def _own_id(self, stream_id: str) -> str:
        """Of a stream whose sender is here, talking or not. Raises Refused `no_stream`."""
        if not self._sessions.has_sender(stream_id):
            raise Refused("no_stream", "This stream is not this server's")
        return stream_id

    async def _follow_room(self, request: web.Request) -> web.StreamResponse:
        """Receives a room: whoever talks there, also while nobody does."""
        grant = self._admission.access.require(request, Scope.RECEIVE)
        name = request.match_info["room"]
        if not grant.covers_room(name_key(name)):
            raise web.HTTPForbidden(text="This needs a token that covers the room.\n")
        offer = await self._read_offer(request)
        connection = self._new_connection(request, "whep", grant)

        async def begin() -> ReceiveSession:
            selection = Selection(grant=grant, room=self._sessions.rooms.use(name))
            return await self._sessions.follow_anew(connection, selection)

        _, answer = await self._establish(connection, offer, self._admission.limits.check_receivers, begin)
        return self._created(request, connection, answer, {})

    def _new_connection(self, request: web.Request, via: str, grant: Grant) -> HttpConnection:
        address = self._admission.access.client_address(request)
        return HttpConnection(self.connections, via, grant, address)

    async def _establish(
        self,
        connection: HttpConnection,
        offer: str,
        check: Callable[[], None],
        begin: Callable[[], Awaitable[SessionT]],
    ) -> tuple[SessionT, str]:
        """The session that `begin` begins and its answer, within the limits that hold for every client."""
        limits = self._admission.limits
        limits.check_sdp(offer)
        check()
        limits.check_negotiations()
        if not connection.grant.is_node:  # It pulls more streams than one address may have sockets.
            connection.counted.enter_context(limits.connection(connection.address))
        session = None
        try:
            async with limits.negotiation():
                check()
                session = await begin()
                # Once the server stops, nobody ends what is added.
                limits.check_open()
                self.connections.add(connection)
                return session, await session.answer(offer)
        except BaseException:
            if isinstance(session, PublishSession):
                self._sessions.restore_key(session)
            await self.connections.end(connection, "no media")
            connection.counted.close()
            raise

    async def _read_offer(self, request: web.Request) -> str:
        """The body. Raises 413, 415, and Refused `bad_sdp` for what is no text."""
        if request.content_type != SDP_TYPE:
            text = f"The offer is to be sent as {SDP_TYPE}\n"
            raise web.HTTPUnsupportedMediaType(text=text)
        return await self._read(request, self._settings.limits.max_sdp_characters)

    async def _read(self, request: web.Request, max_characters: int) -> str:
        max_bytes = max_characters * _MAX_BYTES_PER_CHARACTER
        body = b""
        async for chunk in request.content.iter_chunked(2**14):
            body += chunk
            if len(body) > max_bytes:
                raise web.HTTPRequestEntityTooLarge(max_bytes, len(body), text="The body is too long\n")
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise Refused("bad_sdp", "The body is not UTF-8") from None

    def _created(
        self, request: web.Request, connection: HttpConnection, answer: str, further: dict[str, str]
    ) -> web.Response:
        prefix = self._admission.access.path_prefix(request)
        # As bytes: neither type has a charset (RFC 8866 section 8.1), and some clients compare the whole header.
        body = answer.encode()
        response = web.Response(status=HTTPStatus.CREATED, body=body, content_type=SDP_TYPE, headers=further)
        response.headers[hdrs.LOCATION] = f"{prefix}/{connection.via}/sessions/{connection.resource}"
        response.headers[hdrs.ETAG] = connection.etag
        self._link_ice_servers(response)
        return response

    def _link_ice_servers(self, response: web.Response) -> None:
        for server in self._settings.webrtc.ice_servers:
            response.headers.add(hdrs.LINK, f'<{server.urls}>; rel="ice-server"')

    async def _show_endpoint(self, request: web.Request) -> web.StreamResponse:
        """No content, and a type by which players know an endpoint.

        RFC 9725 section 4.1; draft-ietf-wish-whep, "WHEP Endpoint URL Discoverability". The same for every name, so
        that it tells nothing of streams and needs no token.
        """
        return web.Response(content_type=SDP_TYPE)

    async def _show_session(self, request: web.Request) -> web.StreamResponse:
        """No content (RFC 9725 section 4.1), or 404."""
        self._connection(request)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        """Candidates of the client, or an ICE restart (RFC 9725 section 4.3)."""
        connection = self._connection(request)
        if request.content_type != sdp_fragments.CONTENT_TYPE:
            text = f"Candidates are to be sent as {sdp_fragments.CONTENT_TYPE}\n"
            raise web.HTTPUnsupportedMediaType(text=text)
        fragment = sdp_fragments.parse(await self._read(request, sdp_fragments.MAX_CHARACTERS))
        if_match = request.headers.get(hdrs.IF_MATCH)
        if if_match == "*":
            limits = self._admission.limits
            limits.check_negotiations()
            async with limits.negotiation():
                ours = await connection.restart_ice(fragment)
            body = sdp_fragments.write(*ours, fragment.mid).encode()
            headers = {hdrs.ETAG: connection.etag}
            return web.Response(body=body, content_type=sdp_fragments.CONTENT_TYPE, headers=headers)
        try:
            await connection.trickle(fragment, if_match)
        except PreconditionFailed:
            return problem(HTTPStatus.PRECONDITION_FAILED, "The entity tag is not that of the ICE session")
        except PreconditionRequired:
            return problem(HTTPStatus.PRECONDITION_REQUIRED, "If-Match is needed: the session's ETag, or * to restart")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self.connections.end(self._connection(request), "sender left")
        return web.Response()

    def _connection(self, request: web.Request) -> HttpConnection:
        """Raises 404 for a session that is not there, or not any more; its URL is what tells who may use it."""
        connection = self.connections.get(request.path.split("/")[1], request.match_info["resource"])
        if connection is None:
            raise web.HTTPNotFound(text="There is no such session\n")
        return connection

    async def _describe_endpoint(self, request: web.Request) -> web.Response:
        """Clients that need ICE servers before they offer ask here, which is no preflight (RFC 9725 section 4.6)."""
        response = self._preflight(request, {hdrs.ALLOW: _ENDPOINT_METHODS, "Accept-Post": SDP_TYPE})
        if hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            self._link_ice_servers(response)
        return response

    async def _describe_session(self, request: web.Request) -> web.Response:
        return self._preflight(request, {hdrs.ALLOW: _SESSION_METHODS, "Accept-Patch": sdp_fragments.CONTENT_TYPE})

    def _preflight(self, request: web.Request, allowed: dict[str, str]) -> web.Response:
        """What a browser asks before a page of another origin may do anything; it brings no token."""
        headers = allowed | {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "POST, PATCH, DELETE, OPTIONS",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: f"Authorization, Content-Type, If-Match, {RESUME_HEADER}",
            hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
        }
        return web.Response(headers=headers | self._cors(request))

    def _cors(self, request: web.Request) -> dict[str, str]:
        """For pages whose origin is allowed (the Fetch standard's CORS protocol)."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not self._admission.access.is_own_page(request):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: f"Location, ETag, Link, {RESUME_HEADER}",
            hdrs.VARY: hdrs.ORIGIN,
        }
