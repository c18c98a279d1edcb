"""Opus packets in real time without a hole: pauses become silence, without decoding. No I/O, no clock.

Positions, timestamps and times are ticks of CLOCK_RATE_HZ. The caller passes real time as `due`, the ticks that have
passed since position 0. A packet is put out when it comes, so that the line is at `due` while packets come; players
have a buffer of their own against jitter. In a pause it is `patience` behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .opus import CLOCK_RATE_HZ, OpusPacket, frame_ticks, packet_ticks
from .pcm import REORDER_PACKETS
from .playout import MOST_EARLY_SAMPLES, PAUSE_SAMPLES, WINDOW_PACKETS, Arrivals

SILENT_PACKETS = {960: b"\xf8\xff\xfe", 480: b"\xf0\xff\xfe", 240: b"\xe8\xff\xfe", 120: b"\xe0\xff\xfe"}
"""By duration, the longest first: CELT, mono, whose first symbol says that it is silent (RFC 6716 section 4.3)."""

LEAST_TICKS = 120
"""2.5 ms, the shortest packet: a hole is filled up to less than that."""

MOST_CONCEALED_TICKS = CLOCK_RATE_HZ // 10
"""A lost piece of up to 100 ms is left to the decoder's concealment, as for the MP3; what is longer is silent."""

DRIFT_TICKS = 60 * CLOCK_RATE_HZ // 1000
"""So far may packets come early or late by the clock before one is left out, or silence put in: as much as jitter of a
LAN, and too little to notice."""

QUIET = 1.25
"""A packet of up to so many times the bytes of the smallest within WINDOW_PACKETS is quiet, at a variable bit rate: it
can be left out, or be preceded by silence. At a constant bit rate there is nothing to tell, and any packet is."""


def silence(length: int) -> Iterator[tuple[bytes, int]]:
    """Packets of silence and their durations, at most `length` ticks, and less than LEAST_TICKS short of it."""
    for ticks, payload in SILENT_PACKETS.items():
        count, length = divmod(length, ticks)
        for _ in range(count):
            yield payload, ticks


@dataclass
class OpusLineCounters:
    """Of all lines together, since the start."""

    packets: int = 0
    late_packets: int = 0
    """Came when silence had taken their time, or twice."""
    early_packets: int = 0
    """Of a sender that is faster than time passes."""
    broken_packets: int = 0
    silence_ticks: int = 0
    left_out_packets: int = 0
    """Quiet ones, for a sender's clock that is too fast."""
    anchored: int = 0
    """How often a timeline was put at a new position."""


class _Arrived(NamedTuple):
    packet: OpusPacket
    ticks: int
    due: float


class OpusLine:
    """Passes packets and silence to `emit`, in order and each with its duration."""

    def __init__(
        self, emit: Callable[[bytes, int], None], counters: OpusLineCounters, *, patience: int, position: int = 0
    ) -> None:
        """`patience`: how long after the usual time a packet may come before silence takes its place."""
        self.position = position
        """After what was put out last."""
        self._emit = emit
        self._counters = counters
        self._patience = patience
        self._held: dict[int, _Arrived] = {}
        self._next_sequence: int | None = None
        self._offset: int | None = None
        """Adds to a timestamp to give its position; None before a timeline's first packet."""
        self._end = 0
        """Timestamp after the newest packet."""
        self._toc = 0
        self._arrived_due: float | None = None
        self._arrivals = Arrivals()
        """Of packets' ends."""
        self._sizes: deque[int] = deque(maxlen=WINDOW_PACKETS)

    def begin_timeline(self) -> None:
        """The next packet is of another timeline; those that are held are put out."""
        self._release()
        self._next_sequence = self._offset = None
        self._arrivals = Arrivals()
        self._sizes.clear()

    def push(self, packet: OpusPacket, due: float) -> None:
        """Takes a packet, in whatever order it arrived; `due` is that of its arrival."""
        ticks = packet_ticks(packet.payload)
        if ticks is None:
            self._counters.broken_packets += 1
            return
        self._arrivals.note(packet.timestamp + ticks, due)
        self._arrived_due = due + ticks
        if self._next_sequence is None:
            self._next_sequence = packet.sequence
        if packet.sequence < self._next_sequence or packet.sequence in self._held:
            self._counters.late_packets += 1
            return
        if not self._held and packet.sequence == self._next_sequence:
            self._place(_Arrived(packet, ticks, due))
            return
        self._held[packet.sequence] = _Arrived(packet, ticks, due)
        while self._next_sequence in self._held or len(self._held) >= REORDER_PACKETS:
            self._place(self._held.pop(min(self._held)))

    def advance(self, due: float) -> None:
        """So late it is: where no packet has come for `patience`, those that are held and silence are put out."""
        if self._arrived_due is not None and due - self._arrived_due <= self._patience:
            return
        self._release()
        missing = int(due) - self._patience - self.position
        if missing >= max(SILENT_PACKETS):
            self._be_silent(missing - missing % max(SILENT_PACKETS))

    def finish(self, due: float | None = None) -> None:
        """Puts out what is held, and silence up to `due`."""
        self._release()
        if due is not None:
            self._be_silent(max(0, int(due) - self.position))

    def _release(self) -> None:
        while self._held:
            self._place(self._held.pop(min(self._held)))

    def _place(self, arrived: _Arrived) -> None:
        """Puts out what is missing before the packet, and the packet, unless it is too late."""
        packet, ticks, due = arrived
        is_lost_before = packet.sequence != self._next_sequence
        self._next_sequence = packet.sequence + 1
        offset = self._anchored(arrived)
        self._end = packet.timestamp + ticks
        gap = packet.timestamp + offset - self.position
        if gap <= -ticks:
            self._counters.late_packets += 1
            return
        if self.position + max(gap, 0) + ticks > due + MOST_EARLY_SAMPLES:
            self._counters.early_packets += 1
            return
        if gap < 0:
            self._offset = offset - gap
        elif is_lost_before and gap <= MOST_CONCEALED_TICKS:
            self._be_concealed(gap)
        else:
            self._be_silent(gap)
        self._sizes.append(len(packet.payload))
        if not self._is_left_out(packet.payload, ticks):
            self._put(packet.payload, ticks)
            self._toc = packet.payload[0]

    def _put(self, payload: bytes, ticks: int) -> None:
        self._emit(payload, ticks)
        self.position += ticks
        self._counters.packets += 1

    def _be_silent(self, length: int) -> None:
        for payload, ticks in silence(length):
            self._emit(payload, ticks)
            self.position += ticks
            self._counters.silence_ticks += ticks

    def _be_concealed(self, length: int) -> None:
        """Frames of no bytes, by which decoders conceal (RFC 7845 section 4.1), and silence for the rest."""
        frame = bytes([self._toc & 0b11111100])
        ticks = frame_ticks(frame)
        for _ in range(length // ticks):
            self._put(frame, ticks)
        self._be_silent(length % ticks)

    def _anchored(self, arrived: _Arrived) -> int:
        """The offset for the packet, set anew where the present one no longer fits."""
        packet, ticks, due = arrived
        lead = packet.timestamp + ticks - due
        if self._offset is None:
            return self._anchor(arrived, lead)
        step = packet.timestamp - self._end
        early = packet.timestamp + self._offset + ticks - due
        if step > PAUSE_SAMPLES or step < -MOST_EARLY_SAMPLES or early > MOST_EARLY_SAMPLES:
            return self._anchor(arrived, lead)
        if packet.timestamp + self._offset <= self.position - ticks:
            # Late: is that the network's delay from now on?
            late_lead = self._arrivals.median_if_mostly_below(-self._offset - self._patience)
            if late_lead is not None:
                return self._anchor(arrived, late_lead)
        return self._offset

    def _anchor(self, arrived: _Arrived, lead: float) -> int:
        """Puts the timeline where a packet with this lead ends when it arrives, but not into the past."""
        self._offset = max(-round(lead), self.position - arrived.packet.timestamp)
        self._arrivals.forget()
        self._counters.anchored += 1
        return self._offset

    def _is_left_out(self, payload: bytes, ticks: int) -> bool:
        """Corrects the drift of the sender's clock at quiet packets: by leaving this one out, or by silence before it.

        What is corrected is how early packets usually come; silence between them is set anew by the clock anyhow.
        """
        usual = self._arrivals.usual
        assert self._offset is not None
        early = 0.0 if usual is None else usual + self._offset
        if abs(early) < DRIFT_TICKS or len(payload) > QUIET * min(self._sizes):
            return False
        if early > 0:
            self._offset -= ticks
            self._counters.left_out_packets += 1
            return True
        self._offset += ticks
        self._be_silent(ticks)
        return False
