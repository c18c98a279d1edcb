"""Consent to send (RFC 7675), without a task for each peer."""

from __future__ import annotations

import asyncio

from aioice import stun
from aioice.ice import Connection

from .ice_port import PeerPort
from .shared_socket import Address

CHECK_SPREAD_S = 1.0
"""A check is this much late at most: so two of them, due every 5 s, are 4 to 6 s apart (RFC 7675 section 5.1)."""


class Consent:
    """One peer's consent: `check` every 4 to 6 seconds, and do not send once `has_expired`: `timeout_s` after the last
    answer, at most 30 s (RFC 7675 section 5.1).

    To aioice it is a transaction, one that never ends: each check is sent once, and any authentic answer from the
    address that was asked counts.
    """

    def __init__(self, connection: Connection, timeout_s: float, now_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._granted_s = now_s
        self._now_s = now_s
        self._port: PeerPort | None = None
        self._address: Address | None = None
        self._transaction = b""
        self.answered = asyncio.Event()
        """Set by an answer to the newest check."""

    def has_expired(self, now_s: float) -> bool:
        return now_s - self._granted_s > self._timeout_s

    def check(self, port: PeerPort, address: Address, now_s: float) -> None:
        """Asks the peer at `address` whether it still wants what we send."""
        self.forget()
        self.answered.clear()
        self._now_s = now_s
        pair = self._connection._nominated[1]
        request = self._connection.build_request(pair, nominate=False)
        request.add_message_integrity((self._connection.remote_password or "").encode())
        self._port, self._address, self._transaction = port, address, request.transaction_id
        port.open_transaction(self._transaction, self)
        port.send_stun(request, address)

    def forget(self) -> None:
        """Expects no answer any more."""
        if self._port is not None:
            self._port.close_transaction(self._transaction)
            self._port = None

    def response_received(self, message: stun.Message, addr: Address) -> None:
        if (
            addr == self._address
            and message.message_class == stun.Class.RESPONSE
            and message.check_message_integrity((self._connection.remote_password or "").encode())
        ):
            self._granted_s = self._now_s
            self.answered.set()
            self.forget()
