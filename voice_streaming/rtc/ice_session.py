"""One ICE session of a peer (RFC 8445): credentials, candidates and checks, on the sockets that all peers share."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import cast

from aioice import Candidate
from aioice.ice import CandidatePair, candidate_pair_priority, server_reflexive_candidate
from aioice.ice import Connection as IceConnection
from aiortc import RTCIceCandidate
from aiortc.rtcicetransport import candidate_to_aioice

from .endpoint import Endpoint
from .ice_port import PeerPort, PortOwner, host_candidate
from .sdp import Credentials
from .shared_socket import Address, SharedSocket
from .substitution import substitute

STUN_TIMEOUT_S = 2.0
"""A description waits no longer than this for a configured STUN server."""


class IceSession:
    """An aioice connection on shared sockets. `on_nominated` is called when it chose a pair, at first or anew.

    A restart (RFC 8445 section 9) begins another one for the same peer.
    """

    def __init__(
        self,
        connection: IceConnection,
        endpoint: Endpoint,
        owner: PortOwner,
        on_nominated: Callable[[IceSession], None],
    ) -> None:
        self.connection = connection
        self._endpoint = endpoint
        self._owner: PortOwner | None = owner
        self._on_nominated = on_nominated
        self._checks: asyncio.Task[None] | None = None
        # aioice's own has four characters, and all peers share a socket: of a thousand, two might have the same.
        substitute(connection, "_local_username", secrets.token_hex(8))
        substitute(connection, "gather_candidates", self.gather)
        substitute(connection, "check_complete", self._on_check_complete)
        substitute(connection, "query_consent", _no_consent_task)

    @property
    def ours(self) -> Credentials:
        return Credentials(self.connection.local_username, self.connection.local_password)

    @property
    def pair(self) -> CandidatePair | None:
        """What was nominated, if anything was."""
        return self.connection._nominated.get(1)

    def route(self) -> tuple[SharedSocket, Address] | None:
        """Where media goes: the nominated pair's socket and remote address."""
        pair = self.pair
        return None if pair is None else (cast(PeerPort, pair.protocol).shared, pair.remote_addr)

    async def gather(self) -> None:
        """Replaces aioice's, which opens a socket for each address and peer."""
        ice = self.connection
        owner = self._owner
        if owner is not None and not ice._local_candidates_start:
            ice._local_candidates_start = True
            for shared in self._endpoint.sockets.open():
                ice._protocols.append(PeerPort(ice, shared, owner))
            ice._local_candidates += self._advertised_candidates()
            if ice.stun_server is not None:
                ice._local_candidates += await self._ask_stun(ice.stun_server)
            ice._local_candidates_end = True

    def expect(self, theirs: Credentials, is_lite: bool = False) -> None:
        """The peer's credentials, before `check`."""
        self.connection.remote_username, self.connection.remote_password = theirs.ufrag, theirs.password
        self.connection.remote_is_lite = is_lite

    async def add_candidates(self, candidates: Sequence[RTCIceCandidate]) -> None:
        for candidate in candidates:
            await self.connection.add_remote_candidate(candidate_to_aioice(candidate))

    def check(self) -> None:
        """Begins the checks; they go on until a pair is nominated or the session is closed."""
        if self._checks is None:
            self._checks = asyncio.create_task(self._connect(), name="ice-checks")

    async def close(self) -> None:
        """Stops the checks and gives up its share of the sockets; safe to call twice."""
        await self.connection.close()
        if self._checks is not None:
            await asyncio.wait([self._checks])
            self._checks = None
        self._owner, self._on_nominated = None, _no_op
        # Reference cycles of aioice's objects with each other and with us.
        for pair in self.connection._check_list:
            pair.task = None
        self.connection._check_list.clear()
        for name in ("gather_candidates", "check_complete", "query_consent"):
            self.connection.__dict__.pop(name, None)

    async def _connect(self) -> None:
        # Raised when it was closed before it chose a pair: the end of candidates is never told to it.
        with contextlib.suppress(ConnectionError):
            await IceConnection.connect(self.connection)

    def _on_check_complete(self, pair: CandidatePair) -> None:
        before = self.pair
        IceConnection.check_complete(self.connection, pair)
        nominated = self.pair
        if before is not None and nominated is pair and self._is_no_better(pair, before):
            self.connection._nominated[pair.component] = before
        elif nominated is not None and nominated is not before:
            cast(PeerPort, nominated.protocol).claim(nominated.remote_addr)
            self._on_nominated(self)

    def _is_no_better(self, pair: CandidatePair, before: CandidatePair) -> bool:
        """Each of our checks nominates, and of what is nominated so the best counts (RFC 5245 section 8.1.1.2), not the
        last to answer: that is the slowest way, or one that goes away soon. A client that nominates means the newest.
        """
        if not self.connection.ice_controlling:
            return False
        new, old = (
            candidate_pair_priority(one.local_candidate, one.remote_candidate, ice_controlling=True)
            for one in (pair, before)
        )
        return new <= old

    def _advertised_candidates(self) -> list[Candidate]:
        """Where clients are told to send to: our sockets, or what is forwarded to them."""
        own = [cast(PeerPort, port).local_candidate for port in self.connection._protocols]
        told = self._endpoint.settings.advertised_addresses
        if not told:
            return own
        # A forwarded port keeps its number, and IPv6 is not forwarded to IPv4.
        advertised = {(address, c.port) for c in own for address in told if (":" in address) == (":" in c.host)}
        return [host_candidate(address, port) for address, port in sorted(advertised)]

    async def _ask_stun(self, server: Address) -> list[Candidate]:
        """The addresses that a configured STUN server sees us at; those that it does not tell in time are left out."""
        ports = [port for port in self.connection._protocols if ":" not in port.local_candidate.host]
        queries = [asyncio.wait_for(server_reflexive_candidate(port, server), STUN_TIMEOUT_S) for port in ports]
        answers = await asyncio.gather(*queries, return_exceptions=True)
        return [answer[0] for answer in answers if not isinstance(answer, BaseException)]


async def _no_consent_task() -> None:
    """Replaces aioice's endless task: `Peer.on_timer` does it for all peers."""


def _no_op(session: IceSession) -> None:
    """What a nomination in a closed session leads to."""
