"""Listeners: players of the live audio, and the writing of audio to them."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..process.failures import Failures
from ..process.transports import below_tls, unsent_bytes
from ..process.turns import Turns
from ..streams.grants import EVERYTHING, Grant
from .backlog import Backlog, BacklogLimits, Verdict
from .icy import IcyInterleaver
from .sent_frames import SentFrames

LISTENERS_PER_TURN = 64
"""Written to at once; some 0.4 ms, after which the event loop reads its sockets again."""


class Listener:
    """One player's connection. `gone` is done when the player has left or was disconnected."""

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
        """Whether it gets another stream, or silence, when its stream ends."""
        self.transport = transport
        self.is_plain = not chunked and icy is None and most_bytes is None
        """Takes the audio as it is."""
        self.grant = grant
        self._chunked = chunked
        self._icy = icy
        self._left_bytes = most_bytes
        self.sent: SentFrames
        """Since `begin`."""
        self.backlog: Backlog
        """Since `begin`."""

    def begin(self, first_frame: int, limits: BacklogLimits) -> None:
        """It gets the audio from that frame on."""
        self.sent = SentFrames(first_frame)
        self.backlog = Backlog(limits)
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.kernel_buffer_bytes)
            # TLS then keeps what is more than that, where it is seen.
            below_tls(self.transport).set_write_buffer_limits(limits.chunk_bytes)

    def write(self, audio: bytes, title: str) -> int:
        """Sends the audio as this listener wants it; the object itself, if it wants nothing else. Gives its length."""
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
        return len(audio)

    def finish(self) -> None:
        """Ends the response after what was written."""
        if self._chunked and not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")
        self.release()

    def release(self) -> None:
        """Lets its request end, which closes the connection."""
        if not self.gone.done():
            self.gone.set_result(None)

    def disconnect(self) -> None:
        """Closes the connection at once; unsent audio is lost."""
        self.transport.abort()
        self.release()


class Chunk(NamedTuple):
    """Whole MP3 frames or Ogg pages, for all listeners of a channel."""

    audio: bytes
    title: str
    frames: range
    """Of the clock; ticks of it, in Ogg."""


@dataclass
class ListenerCounters:
    """Of all listeners, since the start."""

    listeners_total: int = 0
    bytes_sent: int = 0
    disconnected_slow: int = 0
    brought_back: int = 0
    """How often one that was late got no more until it was live again."""
    dropped_frames: int = 0
    """What these missed."""


class Delivery:
    """Writes audio to many listeners, a few per turn of the event loop. Each gets it in order, and whole unless it is
    late."""

    def __init__(
        self,
        turns: Turns,
        counters: ListenerCounters,
        now_s: Callable[[], float],
        failures: Failures,
        name: str = "mp3-listener",
    ) -> None:
        """`name` is by which a failure of a listener is noted."""
        self._name = name
        self._turns = turns
        self._failures = failures
        self._counters = counters
        self._now_s = now_s

    def deliver(self, listeners: Sequence[Listener], chunk: Chunk) -> None:
        """To those that are still there when their turn comes.

        One whose connection fails is disconnected, and the others do not notice.
        """
        for first in range(0, len(listeners), LISTENERS_PER_TURN):
            batch = listeners[first : first + LISTENERS_PER_TURN]
            self._turns.add(functools.partial(self._write, batch, chunk))

    def skip(self, listeners: Sequence[Listener], frames: range) -> None:
        """None of them gets these frames."""
        self._turns.add(functools.partial(_skip, listeners, frames))

    def _write(self, listeners: Sequence[Listener], chunk: Chunk) -> None:
        """The hot path of all listening."""
        audio = chunk.audio
        lost = 0
        for listener in listeners:
            transport = listener.transport
            try:
                if transport.is_closing():
                    lost += 1
                    listener.release()
                elif transport.get_write_buffer_size() or listener.backlog.is_late:
                    if not self._write_to_slow(listener, chunk):
                        lost += 1
                elif listener.is_plain:
                    transport.write(audio)
                else:
                    listener.write(audio, chunk.title)
            except Exception as error:  # noqa: BLE001 - note logs it
                lost += 1
                listener.release()
                self._failures.note(self._name, error)
        self._counters.bytes_sent += len(audio) * (len(listeners) - lost)

    def _write_to_slow(self, listener: Listener, chunk: Chunk) -> bool:
        """To one that has not taken all. Whether it got the chunk."""
        backlog = listener.backlog
        was_late = backlog.is_late
        verdict = backlog.judge(unsent_bytes(listener.transport), chunk.frames, self._now_s())
        if verdict is Verdict.WRITE:
            backlog.written(listener.write(chunk.audio, chunk.title))
            return True
        if verdict is Verdict.DISCONNECT:
            self._counters.disconnected_slow += 1
            listener.disconnect()
            return False
        if not was_late:
            self._counters.brought_back += 1
        self._counters.dropped_frames += len(chunk.frames)
        listener.sent.skip(chunk.frames.start, len(chunk.frames))
        return False


def _skip(listeners: Sequence[Listener], frames: range) -> None:
    for listener in listeners:
        listener.sent.skip(frames.start, len(frames))
