"""A peer's share of a UDP socket, which aioice uses as if it were a socket of the peer's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, cast

from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol

from .shared_socket import Address, SharedSocket, is_stun
from .srtp import Incoming

logger = logging.getLogger(__name__)

MAX_QUEUED_DATAGRAMS = 64
"""DTLS datagrams that the handshake has not read yet; aioice's own queue has no bound."""

MAX_ADDRESSES = 64
"""More than a client has: for each address that it sends a check from, aioice keeps a candidate and a pair."""


class StunTransaction(Protocol):
    """Receives the response to a STUN request."""

    def response_received(self, message: stun.Message, addr: Address) -> None: ...


class PeerPort(StunProtocol):
    """Replaces the socket that aioice would open for the peer."""

    def __init__(self, connection: Connection, shared: SharedSocket, on_media: Callable[[Incoming], None]) -> None:
        super().__init__(connection)
        self.shared = shared
        self.on_media = on_media
        self._known: set[Address] = set()
        """Addresses whose checks proved that the peer knows our password."""
        host, number = shared.address
        self.local_candidate = host_candidate(host, number)
        shared.add_user(connection.local_username, self)

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        if is_stun(datagram):
            self._on_stun(datagram, address)
        elif self.receiver._queue.qsize() < MAX_QUEUED_DATAGRAMS:
            self.receiver.data_received(datagram, self.local_candidate.component)

    def _on_stun(self, datagram: bytes, address: Address) -> None:
        try:
            message = stun.parse_message(datagram)
            if message.message_class == stun.Class.REQUEST:
                if address not in self._known and len(self._known) >= MAX_ADDRESSES:
                    return
                self.receiver.request_received(message, address, self)
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
            response: tuple[stun.Message, Address] = await super().request(
                request, addr, integrity_key, retransmissions
            )
        finally:
            self.shared.remove_transaction(request.transaction_id)
        self.shared.add_address(addr, self)
        return response

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
            self.shared.add_address(addr, self)
        self.shared.send(bytes(message), addr)

    async def send_data(self, data: bytes, addr: Address) -> None:
        self.shared.send(data, addr)

    async def close(self) -> None:
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
