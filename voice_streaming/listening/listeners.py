"""Players of the live MP3, and how its bytes get to them."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ..process.turns import Turns
from ..streams.grants import EVERYTHING, Grant
from .icy import IcyInterleaver

KERNEL_BUFFER_BYTES = 32_768
"""Asked of the kernel for a listener's unsent bytes: it would by itself take megabytes, minutes of audio, for one that
does not read. Linux gives twice as much, for its own overhead."""

LISTENERS_PER_TURN = 64
"""Written to at once; some 0.4 ms, after which the event loop reads its sockets again."""


class Listener:
    """One player's connection. `gone` is done when it has left or was disconnected."""

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        follows: bool,
        chunked: bool,
        icy: IcyInterleaver | None,
        most_bytes: int | None = None,
        grant: Grant = EVERYTHING,
    ) -> None:
        """`most_bytes` is the length of the answer's body, metadata included; None for a body without an end."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.follows = follows
        """Whether it goes on with another stream, or with silence, when its stream ends."""
        self.transport = transport
        self.is_plain = not chunked and icy is None and most_bytes is None
        """Takes the audio as it is."""
        self.grant = grant
        self._chunked = chunked
        self._icy = icy
        self._left_bytes = most_bytes
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)

    def write(self, audio: bytes, title: str) -> None:
        """Sends the audio as this listener wants it; the object itself, if it wants nothing else."""
        if self._icy is not None:
            audio = self._icy.interleave(audio, title)
        if self._left_bytes is not None:
            audio = audio[: self._left_bytes]
            self._left_bytes -= len(audio)
            if self._left_bytes == 0:
                self.release()
        if self._chunked:
            audio = b"%x\r\n%b\r\n" % (len(audio), audio)
        self.transport.write(audio)

    def finish(self) -> None:
        """Ends it after what was written."""
        if self._chunked and not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")
        self.release()

    def release(self) -> None:
        """Lets its request end, which closes the connection."""
        if not self.gone.done():
            self.gone.set_result(None)

    def disconnect(self) -> None:
        """Drops it at once, with what is unsent."""
        self.transport.abort()
        self.release()


@dataclass
class ListenerCounters:
    """Of all listeners, since the start."""

    listeners_total: int = 0
    bytes_sent: int = 0
    disconnected_slow: int = 0


class Delivery:
    """Writes audio to many listeners, a few per turn of the event loop. Each gets everything in order."""

    def __init__(self, turns: Turns, counters: ListenerCounters, backlog_bytes: float) -> None:
        self._turns = turns
        self._counters = counters
        self._backlog_bytes = backlog_bytes

    def deliver(self, listeners: Sequence[Listener], audio: bytes, title: str) -> None:
        """To those that are still there when their turn comes; one that has too much unsent is disconnected."""
        for first in range(0, len(listeners), LISTENERS_PER_TURN):
            batch = listeners[first : first + LISTENERS_PER_TURN]
            self._turns.add(functools.partial(self._write, batch, audio, title))

    def _write(self, listeners: Sequence[Listener], audio: bytes, title: str) -> None:
        """The hot path of the whole MP3 side."""
        backlog_bytes = self._backlog_bytes
        lost = 0
        for listener in listeners:
            transport = listener.transport
            if transport.is_closing():
                lost += 1
                listener.release()
            elif transport.get_write_buffer_size() > backlog_bytes:
                lost += 1
                self._counters.disconnected_slow += 1
                listener.disconnect()
            elif listener.is_plain:
                transport.write(audio)
            else:
                listener.write(audio, title)
        self._counters.bytes_sent += len(audio) * (len(listeners) - lost)
