"""Consent freshness (RFC 7675), without a task for each peer."""

from __future__ import annotations

import asyncio
import math

from aioice import stun
from aioice.ice import Connection

from .ice_port import PeerPort
from .shared_socket import Address

CHECK_SPREAD_S = 1.0
"""A check is this much late at most: so two of them, due every 5 s, are 4 to 6 s apart (RFC 7675 section 5.1)."""


class Consent:
    """One peer's consent to receive what is sent to it (RFC 7675 section 5.1).

    The owner calls `check` every 4 to 6 seconds, and stops sending once `has_expired`: `timeout_s`, at most 30, after
    the check that was answered last. aioice takes it for a STUN transaction, but a check is never retransmitted, and
    only an authentic response from the address that was asked counts.
    """

    def __init__(self, connection: Connection, timeout_s: float, now_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self.checked_s = -math.inf
        """When the newest check was sent."""
        self._granted_s = now_s
        self._port: PeerPort | None = None
        self._address: Address | None = None
        self._transaction = b""
        self.answered = asyncio.Event()
        """Set by an answer to the newest check."""

    def has_expired(self, now_s: float) -> bool:
        return now_s - self._granted_s > self._timeout_s

    def check(self, port: PeerPort, address: Address, now_s: float) -> None:
        """Sends a STUN request to the peer; its authenticated response renews the consent."""
        self.forget()
        self.answered.clear()
        self.checked_s = now_s
        pair = self._connection._nominated[1]
        request = self._connection.build_request(pair, nominate=False)
        request.add_message_integrity((self._connection.remote_password or "").encode())
        self._port, self._address, self._transaction = port, address, request.transaction_id
        port.open_transaction(self._transaction, self)
        port.send_stun(request, address)

    def forget(self) -> None:
        """Ignores the response to the latest check."""
        if self._port is not None:
            self._port.close_transaction(self._transaction)
            self._port = None

    def response_received(self, message: stun.Message, addr: Address) -> None:
        if (
            addr == self._address
            and message.message_class == stun.Class.RESPONSE
            and message.check_message_integrity((self._connection.remote_password or "").encode())
        ):
            self._granted_s = self.checked_s
            self.answered.set()
            self.forget()
