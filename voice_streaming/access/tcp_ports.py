"""The listening TCP sockets: how many connections are accepted, in all and per address, and how fast.

The event loop that accepts connections also forwards packets, so a flood must not keep it busy: a few connections are
accepted per iteration of the loop, and a few kilobytes are read of each.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import Counter, deque
from ipaddress import IPv6Address, IPv6Network, ip_address

from ..network.addresses import listening_addresses
from ..process.failures import Failures
from ..process.tasks import Tasks
from ..process.turns import Turns
from ..settings.model import Settings
from .forwarded import TrustedProxies
from .paced_protocol import PacedProtocol, Protocols

logger = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 8
"""Some 0.1 ms each, and up to 1 ms more for the first request."""
BACKLOG = 1024
"""Connections that may wait in the kernel, so that a flood of them does not cost others a repeated SYN (1 s)."""
TLS_TIMEOUT_S = 10.0
"""For the handshake."""
SPARE_CONNECTIONS = 256
"""For pages, health checks and connections that will be refused, beside WebSockets and players."""
REFUSAL_LINGER_S = 1.0
MAX_REFUSALS = 64
"""Refused connections that are kept for REFUSAL_LINGER_S, so that the client can read why."""
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def address_key(address: str) -> str:
    """The key by which an address is counted: for IPv6 its /64 network, as a host may use any of it (RFC 8981)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((parsed, 64), strict=False))
    return str(parsed)


class TcpPorts:
    """Every TCP port of the server, with one count of connections for all of them."""

    def __init__(self, settings: Settings, failures: Failures | None = None) -> None:
        self.connections = 0
        self.refused_in_all = 0
        self.refused_of_address = 0
        self.max_connections = settings.server.max_connections + settings.audio.max_listeners + SPARE_CONNECTIONS
        self._per_address = settings.limits.tcp_connections_per_address
        ingress = [settings.access.ingress_address] if settings.server.ingress_port else []
        self._proxies = TrustedProxies([*settings.access.trusted_proxies, *filter(None, ingress)])
        """Behind each of these are many clients."""
        self._of_address: Counter[str] = Counter()
        self._listening: list[socket.socket] = []
        self._refusals: deque[socket.socket] = deque()
        self._turns = Turns("tcp-turns", failures)
        self._tasks = Tasks(failures)

    async def open(self, host: str, port: int, protocols: Protocols, context: ssl.SSLContext | None = None) -> None:
        """Listens on every address of `host`, as `listening_addresses` has them. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await asyncio.to_thread(listening_addresses, host)
        for address in addresses:
            try:
                listening = self._listen(address, port)
            except OSError as error:
                if len(addresses) > 1 and error.errno in _NO_SUCH_FAMILY:
                    continue  # A machine without IPv6, say.
                raise
            loop.add_reader(listening.fileno(), self._accept, listening, protocols, context)

    def _listen(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        self._listening.append(listening)
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else it would take IPv4's port too, and clash with a socket for that.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(BACKLOG)
        return listening

    def is_listening(self, port: int) -> bool:
        """Whether connections to that port are accepted."""
        return any(listening.fileno() >= 0 and listening.getsockname()[1] == port for listening in self._listening)

    def stop_listening(self) -> None:
        """Accepts no more connections; those that are open stay."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()
        self._listening.clear()
        while self._refusals:
            self._refusals.popleft().close()

    async def close(self) -> None:
        self.stop_listening()
        await self._tasks.cancel()

    def _accept(self, listening: socket.socket, protocols: Protocols, context: ssl.SSLContext | None) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(listening, protocols, context, error)
                    return
                raise
            connection.setblocking(False)
            self._admit(connection, address_key(peer[0]), peer[0], protocols, context)

    def _pause(
        self, listening: socket.socket, protocols: Protocols, context: ssl.SSLContext | None, error: OSError
    ) -> None:
        """Stops accepting for a second: without a free descriptor the socket would stay readable in every iteration."""
        logger.error("No connection can be accepted: %s", error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def resume() -> None:
            if listening in self._listening:
                loop.add_reader(listening.fileno(), self._accept, listening, protocols, context)

        loop.call_later(1.0, resume)

    def _admit(
        self, connection: socket.socket, key: str, host: str, protocols: Protocols, context: ssl.SSLContext | None
    ) -> None:
        if self.connections >= self.max_connections:
            self.refused_in_all += 1
            self._refuse(connection, "503 Service Unavailable", context)
        elif self._of_address[key] >= self._per_address and host not in self._proxies:
            self.refused_of_address += 1
            self._refuse(connection, "429 Too Many Requests", context)
        else:
            self.connections += 1
            self._of_address[key] += 1
            protocol = PacedProtocol(protocols, self._turns, lambda: self._release(key))
            self._tasks.spawn(self._connect(connection, protocol, context), "connect")

    def _release(self, key: str) -> None:
        self.connections -= 1
        self._of_address[key] -= 1
        if not self._of_address[key]:
            del self._of_address[key]

    async def _connect(
        self, connection: socket.socket, protocol: PacedProtocol, context: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = TLS_TIMEOUT_S if context else None
        try:
            await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            # Port scanners, and browsers that refuse the certificate: ssl.SSLError and TimeoutError are OSErrors too.
            logger.debug("A connection failed: %s", error)
            protocol.closed()
            connection.close()

    def _refuse(self, connection: socket.socket, status: str, context: ssl.SSLContext | None) -> None:
        if context is not None:
            # An answer would need a TLS handshake first, which costs more than anything else.
            connection.close()
            return
        text = "Too many connections: try again later.\n"
        head = f"HTTP/1.1 {status}\r\nRetry-After: 5\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}"
        try:
            connection.send(f"{head}\r\nConnection: close\r\n\r\n{text}".encode())
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()  # The client has closed it.
            return
        self._refusals.append(connection)
        if len(self._refusals) > MAX_REFUSALS:
            self._refusals.popleft().close()
        asyncio.get_running_loop().call_later(REFUSAL_LINGER_S, connection.close)
