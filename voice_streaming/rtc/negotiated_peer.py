"""How a peer is negotiated: offers, answers, renegotiation and ICE restart (RFC 8829, RFC 8445 section 9)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from aioice.ice import Connection as IceConnection
from aiortc import RTCIceCandidate, RTCSessionDescription
from aiortc.rtcicetransport import candidate_from_aioice
from aiortc.sdp import candidate_to_sdp

from ..process.refusal import Refused
from . import sdp
from .endpoint import Endpoint
from .ice_session import IceSession
from .peer import Peer
from .sdp import Credentials, Local, Remote, TakenOffer

MAX_TRICKLED_CANDIDATES = 64


class NegotiatedPeer(Peer):
    """A peer that offers or answers, and answers again.

    aiortc negotiates the first exchange. Later ones change nothing that it knows of: the payload type, ICE credentials
    and candidates are ours to deal with, and a description that is refused has changed nothing.
    """

    def __init__(self, endpoint: Endpoint, *, sends: bool) -> None:
        """`sends`: whether the client sends and we receive, or the other way round."""
        super().__init__(endpoint, "recvonly" if sends else "sendonly")
        self._sends = sends
        self._local: Local | None = None
        self._remote: Remote | None = None
        self._tls_id = secrets.token_hex(16)
        self._candidates = 0
        self._exchange = asyncio.Lock()

    async def offer(self) -> str:
        """Our offer to the client. A further one restarts ICE."""
        async with self._exchange:
            if self._local is None:
                self._local = Local(await self._describe())
            else:
                session = await self._begin_restart()
                self._renew_local(session, "actpass")
            return sdp.write_offer(self._local, self._endpoint.settings)

    async def accept(self, answer: str) -> None:
        """The client's answer to our offer. Raises Refused, and nothing has changed."""
        text, remote = sdp.take_answer(answer, self._endpoint.sockets.hosts(), sends=self._sends)
        async with self._exchange:
            if self._remote is None:
                await self._take(text, "answer")
            elif self._next_ice is None or self._next_ice.connection.remote_username is not None:
                raise Refused("bad_sdp", "The answer does not fit: nothing was offered")
            elif not self._remote.is_continued_by(remote) or self._remote.credentials == remote.credentials:
                raise Refused("bad_sdp", "The answer does not fit: ICE was to be restarted")
            else:
                await self._finish_restart(self._next_ice, remote.credentials, remote.candidates, remote.is_lite)
            self._take_remote(remote)

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer. Raises Refused, and nothing has changed.

        A further offer of the same connection (`continues`) renegotiates it; with new ICE credentials it restarts ICE:
        the DTLS association goes on, and media takes the old way until the new one is found.
        """
        async with self._exchange:
            taken = sdp.take_offer(
                offer, self._endpoint.sockets.hosts(), sends=self._sends, may_pause=self._remote is not None
            )
            if self._local is None or self._remote is None:
                await self._take(taken.sdp, "offer")
                self._local = Local(await self._describe())
            else:
                await self._renegotiate(self._remote, taken)
            self._take_remote(taken.remote)
            return sdp.write_answer(self._local, taken, self._endpoint.settings, self._tls_id)

    def continues(self, offer: str) -> bool:
        """Whether the offer is a further one of the connection that this peer has, not one of a new connection."""
        if self._remote is None:
            return False
        try:
            taken = sdp.take_offer(offer, sends=self._sends, may_pause=True)
        except Refused:
            return False
        return self._remote.is_continued_by(taken.remote)

    async def restart_ice(
        self, ufrag: str, password: str, candidates: Sequence[str] = ()
    ) -> tuple[str, str, list[str]]:
        """The client restarts ICE without an offer (RFC 9725 section 4.3.3): its credentials and candidates for ours.

        Candidates are as in `a=candidate:` lines; those that are of no use are left out.
        """
        async with self._exchange:
            usable = sdp.read_candidates(candidates, self._endpoint.sockets.hosts())
            session = await self._begin_restart()
            await self._finish_restart(session, Credentials(ufrag, password), usable)
            if self._remote is not None:
                self._remote = self._remote.with_credentials(Credentials(ufrag, password))
            ours = session.ours
            return ours.ufrag, ours.password, [candidate_to_sdp(candidate) for candidate in _candidates_of(session)]

    async def add_candidate(self, candidate: str) -> None:
        """A trickled candidate; empty at their end. Which section it names does not matter. Raises Refused."""
        self._candidates += 1
        if self._candidates > MAX_TRICKLED_CANDIDATES:
            raise Refused("too_many_candidates", f"More than {MAX_TRICKLED_CANDIDATES} candidates are not taken")
        if not candidate:
            return
        taken = sdp.take_candidate(candidate, self._endpoint.sockets.hosts())
        if taken is not None:
            await (self._next_ice or self._ice).add_candidates([taken])

    @property
    def remote_ufrag(self) -> str | None:
        """The client's ICE user name fragment, once it is known."""
        return self._remote.credentials.ufrag if self._remote is not None else None

    def _fingerprints(self) -> frozenset[tuple[str, str]]:
        return self._remote.fingerprints if self._remote is not None else frozenset()

    def _take_remote(self, remote: Remote) -> None:
        self._remote = remote
        self._set_payload_type(remote.payload_type)

    def _set_payload_type(self, payload_type: int) -> None:
        """What Opus goes by from now on."""
        raise NotImplementedError

    async def _renegotiate(self, before: Remote, taken: TakenOffer) -> None:
        remote = taken.remote
        if before.credentials == remote.credentials:
            session = self._next_ice or self._ice
            await session.add_candidates(remote.candidates)
        else:
            session = await self._begin_restart()
            await self._finish_restart(session, remote.credentials, remote.candidates, remote.is_lite)
        self._renew_local(session, "active" if self._dtls._role == "client" else "passive")

    def _renew_local(self, session: IceSession, setup: str) -> None:
        assert self._local is not None
        self._local.credentials, self._local.candidates = session.ours, _candidates_of(session)
        self._local.setup = setup
        self._local.version += 1

    async def _begin_restart(self) -> IceSession:
        """Another session, in place of one that has not succeeded; roles stay (RFC 8445 section 6.1.1)."""
        given_up, self._next_ice = self._next_ice, None
        if given_up is not None:
            await given_up.close()
        self._second_path, self._candidates = None, 0
        before = self._ice.connection
        connection = IceConnection(ice_controlling=before.ice_controlling, stun_server=before.stun_server)
        session = IceSession(connection, self._endpoint, self, self._on_nominated)
        await session.gather()
        if self._closed:
            await session.close()
            raise Refused("bad_sdp", "The connection is closed")
        self._next_ice = session
        return session

    async def _finish_restart(
        self, session: IceSession, theirs: Credentials, candidates: Sequence[RTCIceCandidate], is_lite: bool = False
    ) -> None:
        self._may_be_replaced = self._dtls.state == "connected"
        session.expect(theirs, is_lite)
        await session.add_candidates(candidates)
        session.check()

    async def _describe(self) -> str:
        """Our first description, complete with candidates."""
        await self._pc.setLocalDescription()
        if self._closed:
            # It may have gathered after it was closed.
            await self._ice.connection.close()
        return str(self._pc.localDescription.sdp)

    async def _take(self, text: str, kind: str) -> None:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=text, type=kind))
        except Exception as error:
            # A description can be wrong in more ways than aiortc's own errors tell.
            raise Refused("bad_sdp", f"The {kind} does not fit: {error}") from error


def _candidates_of(session: IceSession) -> list[RTCIceCandidate]:
    return [candidate_from_aioice(candidate) for candidate in session.connection.local_candidates]
