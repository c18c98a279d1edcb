"""A peer's share of a UDP socket, which aioice uses as if it were a socket of the peer's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol

from .shared_socket import Address, SharedSocket, is_stun
from .srtp import Incoming

logger = logging.getLogger(__name__)

MAX_ADDRESSES = 64
"""More than a client has: for each address that it sends a check from, aioice keeps a candidate and a pair."""


DEFENCE_RETRANSMISSIONS = 1
"""So that a defence is over after 1.5 s: aioice waits for 0.5 s, then for 1 s."""


class PortOwner(Protocol):
    """The peer that a port is of."""

    @property
    def on_media(self) -> Callable[[Incoming], None]:
        """Takes RTP and RTCP; what is given is overwritten after the call."""

    def on_dtls(self, datagram: bytes, port: PeerPort) -> None:
        """Takes a DTLS datagram that came through one of its ports."""


class StunTransaction(Protocol):
    """Receives the response to a STUN request."""

    def response_received(self, message: stun.Message, addr: Address) -> None: ...


class PeerPort(StunProtocol):
    """Replaces the socket that aioice would open for the peer."""

    def __init__(self, connection: Connection, shared: SharedSocket, owner: PortOwner) -> None:
        super().__init__(connection)
        self.shared = shared
        self.owner: PortOwner | None = owner
        self.on_media = owner.on_media
        self._known: set[Address] = set()
        """Addresses whose checks proved that the peer knows our password."""
        self._answered = b""
        """The transaction that was answered with success last."""
        self._defence: asyncio.Task[None] | None = None
        host, number = shared.address
        self.local_candidate = host_candidate(host, number)
        shared.add_user(connection.local_username, self)

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        if is_stun(datagram):
            self._on_stun(datagram, address)
        elif self.owner is not None:
            self.owner.on_dtls(datagram, self)

    def claim(self, address: Address) -> None:
        """Media and DTLS from the address, which ICE proved to be the peer's, come here from now on."""
        if self.owner is not None:
            self.shared.add_address(address, self)

    def defend(self, address: Address) -> None:
        """Another peer proved itself from the address, too: it is the other's if ours does not answer a check now."""
        self._defence = asyncio.create_task(self._defend(address), name="defend-address")

    async def _defend(self, address: Address) -> None:
        pair = CandidatePair(self, _remote_candidate(address))
        request = self.receiver.build_request(pair, nominate=False)
        key = (self.receiver.remote_password or "").encode()
        answers = True
        try:
            await self.request(request, address, key, retransmissions=DEFENCE_RETRANSMISSIONS)
        except stun.TransactionError:
            answers = False
        self.shared.settle(address, self, answers)

    def _on_stun(self, datagram: bytes, address: Address) -> None:
        try:
            message = stun.parse_message(datagram)
            if message.message_class == stun.Class.REQUEST:
                if address not in self._known and len(self._known) >= MAX_ADDRESSES:
                    return
                self._answered = b""
                self.receiver.request_received(message, address, self)
                # Answered with success: whoever sent it knew our password.
                if self._answered == message.transaction_id and "USE-CANDIDATE" in message.attributes:
                    self.claim(address)
            elif message.transaction_id in self.transactions:
                self.transactions[message.transaction_id].response_received(message, address)
        except Exception as error:  # noqa: BLE001 - a hostile message can make aioice raise anything
            self.shared.strays += 1
            logger.debug("A STUN message from %s:%d cannot be read: %r", *address, error)

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        self.shared.add_transaction(request.transaction_id, self)
        try:
            response, response_address = await super().request(request, addr, integrity_key, retransmissions)
        finally:
            self.shared.remove_transaction(request.transaction_id)
        # Without a key it was a STUN server's answer; from elsewhere it proves nothing (RFC 8445 section 7.2.5.2.1).
        if integrity_key is not None and response_address == addr:
            self.claim(addr)
        return response, response_address

    def open_transaction(self, transaction: bytes, owner: StunTransaction) -> None:
        """Answers to the transaction go to `owner.response_received`, until it is closed."""
        self.transactions[transaction] = cast(stun.Transaction, owner)
        self.shared.add_transaction(transaction, self)

    def close_transaction(self, transaction: bytes) -> None:
        self.transactions.pop(transaction, None)
        self.shared.remove_transaction(transaction)

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        # aioice sends a success response only to a peer that knew our password.
        if message.message_class == stun.Class.RESPONSE:
            self._known.add(addr)
            self._answered = message.transaction_id
        self.shared.send(bytes(message), addr)

    async def send_data(self, data: bytes, addr: Address) -> None:
        self.shared.send(data, addr)

    async def close(self) -> None:
        self.owner, self.on_media = None, _no_media
        if self._defence is not None:
            self._defence.cancel()
        self.shared.remove(self.receiver.local_username, self)


def host_candidate(host: str, port: int) -> Candidate:
    """The host candidate of a socket that is bound to the address (RFC 8445 section 5.1.1.1)."""
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "host"),
        host=host,
        port=port,
        type="host",
    )


def _no_media(incoming: Incoming) -> None:
    """What a closed port makes of media."""


def _remote_candidate(address: Address) -> Candidate:
    candidate = host_candidate(*address)
    candidate._network_host = address[0]
    return candidate
