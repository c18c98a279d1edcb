"""UDP sockets that all peers share: one for each address of the machine, not one for each peer.

The peer of a datagram is found by its first byte (RFC 7983), and then by the ICE user name fragment (STUN requests),
the transaction (STUN responses) or the source address (DTLS and SRTP). With one socket a packet is sent to hundreds of
receivers in one system call, a peer needs no file descriptor, and a firewall one open port.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from .srtp import Incoming

logger = logging.getLogger(__name__)

Address = tuple[str, int]

MAX_DATAGRAM_BYTES = 2048
READS_PER_WAKEUP = 64
"""The most datagrams that are read before other events are handled."""
MAX_EARLY_ADDRESSES = 64
"""Addresses whose ClientHello is kept: more than there are peers between their first packet and the nomination."""
MAX_EARLY_FRAGMENTS = 4
"""Datagrams of a ClientHello that are kept."""
EARLY_S = 2.0
"""How long: what is older can be another connection's, and clients repeat theirs after a second."""
SOCKET_BUFFER_BYTES = 4 * 2**20
"""Requested; the kernel grants at most its own limit (net.core.rmem_max)."""

_STUN_HEADER_BYTES = 20
_STUN_CLASS_MASK = 0x0110
_STUN_USERNAME = 0x0006
_DTLS_HANDSHAKE, _DTLS_CLIENT_HELLO = 22, 1
_DTLS_RECORD_HEADER_BYTES = 13


def is_stun(datagram: bytes) -> bool:
    """RFC 7983 section 7: the first byte is 0 to 3."""
    return len(datagram) >= _STUN_HEADER_BYTES and datagram[0] < 4


def is_dtls(datagram: bytes) -> bool:
    """RFC 7983 section 7: the first byte is 20 to 63."""
    return len(datagram) > 0 and 20 <= datagram[0] <= 63


def is_client_hello(datagram: bytes) -> bool:
    """Whether a DTLS datagram begins a handshake: epoch 0, ClientHello (RFC 6347 sections 4.1 and 4.3.2)."""
    return (
        len(datagram) > _DTLS_RECORD_HEADER_BYTES
        and datagram[0] == _DTLS_HANDSHAKE
        and datagram[3:5] == b"\0\0"
        and datagram[_DTLS_RECORD_HEADER_BYTES] == _DTLS_CLIENT_HELLO
    )


def is_media(datagram: bytes | memoryview) -> bool:
    """RTP or RTCP, RFC 7983 section 7: the first byte is 128 to 191."""
    return len(datagram) > 1 and 128 <= datagram[0] <= 191


def is_stun_request(datagram: bytes) -> bool:
    return int.from_bytes(datagram[:2], "big") & _STUN_CLASS_MASK == 0


def stun_transaction(datagram: bytes) -> bytes:
    return datagram[8:20]


def stun_local_username(datagram: bytes) -> str | None:
    """The part of a request's USERNAME before the colon: the fragment of the side asked (RFC 8445 section 7.2.2)."""
    position = _STUN_HEADER_BYTES
    while position + 4 <= len(datagram):
        kind = int.from_bytes(datagram[position : position + 2], "big")
        length = int.from_bytes(datagram[position + 2 : position + 4], "big")
        if kind == _STUN_USERNAME:
            value = datagram[position + 4 : position + 4 + length]
            return value.partition(b":")[0].decode("ascii", "replace")
        position += 4 + length + (-length % 4)
    return None


class Port(Protocol):
    """One peer's share of a socket."""

    @property
    def on_media(self) -> Callable[[Incoming], None]:
        """Called with RTP and RTCP from an address that was added for the port; overwritten after the call."""

    @property
    def owner(self) -> object:
        """The peer; the ports of one do not compete."""

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        """Called with STUN and DTLS."""

    def defend(self, address: Address) -> None:
        """Another peer's port claims the address: finds out whether this one's still answers, then calls `settle`."""


class SharedSocket:
    """A bound UDP socket and the ports that share it.

    Datagrams for which there is no port are counted in `strays` and dropped, except DTLS: the newest from an address is
    kept for a port that the address is added for.
    """

    def __init__(self, host: str, ports: Iterable[int] = (0,)) -> None:
        """Binds to the first of the ports of `host` that is free (0: any), and reads from then on. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self.socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
            _bind_first_free(self.socket, host, ports)
        except OSError:
            self.socket.close()
            raise
        self.address: Address = self.socket.getsockname()[:2]
        self.strays = 0
        self._users: dict[str, Port] = {}
        self._transactions: dict[bytes, Port] = {}
        self._addresses: dict[Address, Port] = {}
        self._early: dict[Address, list[tuple[float, bytes]]] = {}
        """The ClientHellos that came lately from addresses that nobody had, and when."""
        self._claimants: dict[Address, Port] = {}
        """Who claims an address that is another's, while that is asked."""
        self._incoming = Incoming(MAX_DATAGRAM_BYTES)
        self._reads_per_wakeup = 1
        """The most reads at the next wake-up. Doubled, up to READS_PER_WAKEUP, when every read found a datagram; else
        set to the number that did. Most wake-ups are for one datagram, and a read that finds none costs a system
        call."""
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._read)

    @property
    def is_used(self) -> bool:
        return bool(self._users)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self.socket.close()

    def add_user(self, username: str, port: Port) -> None:
        """STUN requests to this local user name fragment go to the port from now on."""
        self._users[username] = port

    def add_transaction(self, transaction: bytes, port: Port) -> None:
        """The response to this STUN transaction goes to the port."""
        self._transactions[transaction] = port

    def remove_transaction(self, transaction: bytes) -> None:
        self._transactions.pop(transaction, None)

    def add_address(self, address: Address, port: Port) -> None:
        """DTLS and media from this address go to the port. Only for an address that proved itself by ICE.

        What is another peer's stays so unless its port finds that the other does not answer any more.
        """
        holder = self._addresses.get(address)
        if holder is None or holder.owner is port.owner:
            self._addresses[address] = port
            self._hand_on_early(address, port)
            return
        is_asked = address in self._claimants
        self._claimants[address] = port
        if not is_asked:
            holder.defend(address)

    def settle(self, address: Address, holder: Port, answers: bool) -> None:
        """The end of `Port.defend`: without an answer the address is the newest claimant's."""
        claimant = self._claimants.pop(address, None)
        if not answers and claimant is not None and self._addresses.get(address) is holder:
            self._addresses[address] = claimant

    def remove(self, username: str, port: Port) -> None:
        """Forgets all that was added for the port."""
        if self._users.get(username) is port:
            del self._users[username]
        self._transactions = {key: owner for key, owner in self._transactions.items() if owner is not port}
        self._claimants = {key: owner for key, owner in self._claimants.items() if owner is not port}
        for address in [key for key, owner in self._addresses.items() if owner is port]:
            del self._addresses[address]
            if address in self._claimants:
                self._addresses[address] = self._claimants.pop(address)

    def send(self, datagram: bytes | memoryview, address: Address) -> bool:
        """Sends now or not at all; False when the socket is full or the address cannot be reached."""
        try:
            self.socket.sendto(datagram, address)
        except OSError as error:
            logger.debug("To %s:%d: %s", *address, error)
            return False
        return True

    def _read(self) -> None:
        incoming = self._incoming
        for count in range(self._reads_per_wakeup):
            try:
                size, address = self.socket.recvfrom_into(incoming.memory)
            except (BlockingIOError, InterruptedError):
                self._reads_per_wakeup = max(count, 1)
                break
            except OSError as error:
                # An ICMP error about a datagram that was sent earlier. Nothing was read; the next read can succeed.
                logger.debug("%s: %s", self.address, error)
                continue
            incoming.hold(size, time.monotonic())
            try:
                self._dispatch(incoming, address[:2])
            except Exception:
                logger.exception("A datagram of %d bytes from %s:%d could not be handled", size, *address[:2])
        else:
            self._reads_per_wakeup = min(2 * self._reads_per_wakeup, READS_PER_WAKEUP)

    def _dispatch(self, incoming: Incoming, address: Address) -> None:
        if is_media(incoming.datagram):
            port = self._addresses.get(address)
            if port is not None:
                port.on_media(incoming)
                return
        else:
            datagram = bytes(incoming.datagram)
            port = self._port(datagram, address)
            if port is not None:
                port.on_datagram(datagram, address)
                return
            if is_client_hello(datagram):
                self._keep_early(datagram, address, incoming.arrived_s)
        self.strays += 1

    def _keep_early(self, datagram: bytes, address: Address, arrived_s: float) -> None:
        """A controlled peer may send its ClientHello before we nominate; without it, it repeats it after a second."""
        earlier = self._early.pop(address, [])
        self._early[address] = [*earlier, (arrived_s, datagram)][-MAX_EARLY_FRAGMENTS:]
        if len(self._early) > MAX_EARLY_ADDRESSES:
            del self._early[next(iter(self._early))]

    def _hand_on_early(self, address: Address, port: Port) -> None:
        for arrived_s, datagram in self._early.pop(address, ()):
            if time.monotonic() - arrived_s < EARLY_S:
                port.on_datagram(datagram, address)

    def _port(self, datagram: bytes, address: Address) -> Port | None:
        if is_dtls(datagram):
            return self._addresses.get(address)
        if not is_stun(datagram):
            # No protocol of a peer: aiortc's DTLS transport would close on an empty datagram.
            return None
        if is_stun_request(datagram):
            return self._users.get(stun_local_username(datagram) or "")
        return self._transactions.get(stun_transaction(datagram))


def _bind_first_free(udp: socket.socket, host: str, ports: Iterable[int]) -> None:
    """Raises the last port's OSError when none is free; at once when the address itself cannot be bound to."""
    taken = OSError(errno.EADDRINUSE, "no port to bind to")
    for port in ports:
        try:
            udp.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            taken = error
        else:
            return
    raise taken
