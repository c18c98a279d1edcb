"""Publishers and subscribers that came by HTTP: each a connection with a URL of its own."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter

from ..process.refusal import Refused
from ..sessions.connection import Connection
from ..sessions.sessions import Sessions
from ..sessions.states import ConnectionState
from ..streams.grants import Grant
from .sdp_fragments import Fragment

_ID_BYTES = 16
"""128 random bits: whoever knows the URL of a session may end it (RFC 9725 section 5)."""


class PreconditionFailed(Exception):
    """The entity tag is not that of the ICE session."""


class PreconditionRequired(Exception):
    """The request says nothing of which ICE session it is for."""


class HttpConnection(Connection):
    """A client of WHIP or WHEP, as `via` says; `resource` is the last part of its session's path."""

    def __init__(self, registry: HttpSessions, via: str, grant: Grant, address: str) -> None:
        super().__init__(grant, address, via)
        self.resource = registry.prefix + secrets.token_urlsafe(_ID_BYTES)
        self.etag = _new_etag()
        self.counted = contextlib.ExitStack()
        """Closed when its session ends: as long it counts for the limits of its address."""
        self._registry = registry

    def on_session_ended(self) -> None:
        self._registry.forget(self)

    async def trickle(self, fragment: Fragment, if_match: str | None) -> None:
        """Takes candidates of the ICE session that is there. Raises PreconditionFailed and PreconditionRequired.

        Without an entity tag the fragment's user name tells which session it is for: a widespread client sends none.
        """
        session = self.session
        if session is None or session.peer is None:
            raise Refused("unexpected_candidate", "The session has no connection now")
        if if_match is None and (fragment.ufrag is None or fragment.ufrag != session.peer.remote_ufrag):
            raise PreconditionRequired
        if if_match is not None and if_match != self.etag:
            raise PreconditionFailed
        for candidate in fragment.candidates:
            try:
                await session.add_candidate(candidate)
            except Refused as refusal:
                if refusal.code != "bad_candidate":
                    raise

    async def restart_ice(self, fragment: Fragment) -> tuple[str, str, list[str]]:
        """Our new credentials and candidates; the DTLS association goes on. Raises Refused `bad_fragment`."""
        session = self.session
        if session is None or session.peer is None:
            raise Refused("unexpected_candidate", "The session has no connection now")
        if fragment.ufrag is None or fragment.password is None:
            raise Refused("bad_fragment", "A restart needs ice-ufrag and ice-pwd")
        ours = await session.peer.restart_ice(fragment.ufrag, fragment.password, fragment.candidates)
        self.etag = _new_etag()
        return ours


class HttpSessions:
    """Every session that came by HTTP, by the last part of its path."""

    def __init__(self, sessions: Sessions) -> None:
        self.prefix = ""
        """What their paths' last parts begin with."""
        self._sessions = sessions
        self._connections: dict[str, HttpConnection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def counts(self) -> dict[str, int]:
        """How many there are of each protocol."""
        present = Counter(connection.via for connection in self._connections.values())
        return {via: present[via] for via in ("whip", "whep")}

    def get(self, via: str, resource: str) -> HttpConnection | None:
        connection = self._connections.get(resource)
        return connection if connection is not None and connection.via == via else None

    def add(self, connection: HttpConnection) -> None:
        """Once it has a session; it is forgotten when that ends."""
        self._connections[connection.resource] = connection

    def forget(self, connection: HttpConnection) -> None:
        self._connections.pop(connection.resource, None)
        connection.counted.close()
        if connection.state is not ConnectionState.CLOSED:
            connection.advance(ConnectionState.CLOSED)

    async def end(self, connection: HttpConnection, reason: str) -> None:
        """Closes its peer, and ends what the client published."""
        await self._sessions.release(connection, reason)

    async def close(self) -> None:
        """The server stops."""
        for connection in list(self._connections.values()):
            await self.end(connection, "server stopping")


def _new_etag() -> str:
    return f'"{secrets.token_urlsafe(6)}"'
