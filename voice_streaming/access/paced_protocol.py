"""A protocol that reads each TCP connection in small pieces, so that TCP's flow control slows a flood down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..process.transports import below_tls
from ..process.turns import Turns

READ_BYTES = 2048
"""Read of one connection at once: at worst some 0.2 ms of parsing. asyncio by itself reads 256 KiB."""
UNPACED_BYTES_PER_S = 4096
UNPACED_BURST_BYTES = 4096
"""A rate limit for what is read of a connection at once: some requests or messages a second. Beyond it, the connection
waits for its turn, of which there is one per iteration of the event loop."""

Protocols = Callable[[], asyncio.Protocol]
"""Makes the protocol of one connection, as asyncio's `create_server` takes it."""


def stop_reading(transport: asyncio.Transport) -> None:
    """Stops reading from a client that sends too much; the caller must close the connection soon."""
    transport.pause_reading()
    protocol = transport.get_protocol()
    if isinstance(protocol, PacedProtocol):
        protocol.stop_reading()


_buffer = memoryview(bytearray(READ_BYTES))
"""Shared by all connections: its content is copied before anything else is read."""


class PacedProtocol(asyncio.BufferedProtocol):
    """Wraps the protocol of a connection, and reads in small pieces.

    A connection that sends too much is not read while it waits for its turn.
    """

    def __init__(self, protocols: Protocols, turns: Turns, on_gone: Callable[[], None]) -> None:
        self._protocols = protocols
        self._turns = turns
        self._on_gone: Callable[[], None] | None = on_gone
        self._protocol: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._lower_transport: asyncio.Transport | None = None
        self._unpaced_bytes: float = UNPACED_BURST_BYTES
        self._read_s = time.monotonic()
        self._waiting = b""
        self._reading_stopped = False

    def stop_reading(self) -> None:
        """Reads nothing any more: what the client still sends stays in the kernel's buffer."""
        self._reading_stopped = True
        if self._transport is not None:
            self._transport.pause_reading()

    def closed(self) -> None:
        """Calls `on_gone`, the first time."""
        if self._on_gone is not None:
            self._on_gone()
            self._on_gone = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._lower_transport = below_tls(transport)
        self._protocol = self._protocols()
        self._protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._protocol is None or self._transport is None or self._reading_stopped:
            return
        data = bytes(_buffer[:nbytes])
        now_s = time.monotonic()
        earned = (now_s - self._read_s) * UNPACED_BYTES_PER_S
        self._unpaced_bytes = min(UNPACED_BURST_BYTES, self._unpaced_bytes + earned) - nbytes
        self._read_s = now_s
        if self._waiting:
            # TLS can decrypt more than one piece at once.
            self._waiting += data
        elif self._unpaced_bytes >= 0:
            self._protocol.data_received(data)
        else:
            self._unpaced_bytes = 0
            self._waiting = data
            self._transport.pause_reading()
            self._turns.add(self._take_turn)

    def _take_turn(self) -> None:
        data, self._waiting = self._waiting, b""
        if self._protocol is None or self._transport is None or self._reading_stopped:
            return
        # Resumed first, as the protocol may pause reading when it gets the data.
        self._transport.resume_reading()
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received() if self._protocol is not None else None

    def connection_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        lower_transport, self._lower_transport = self._lower_transport, None
        self._transport = None
        self.closed()
        if protocol is not None:
            protocol.connection_lost(error)
        # Breaks reference cycles of the libraries: aiohttp's protocol, WebSocket and request, and asyncio's transport.
        # Else they would be freed only by a full garbage collection, which delays all packets.
        for owner, name in ((protocol, "_data_received_cb"), (lower_transport, "_read_ready_cb")):
            if hasattr(owner, name):
                setattr(owner, name, None)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()
