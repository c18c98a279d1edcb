"""One timeline for all packets of a track, whoever sends them."""

from __future__ import annotations

import random

from ..media.opus import CLOCK_RATE_HZ

MAX_DROPOUT = 3000
"""A step ahead of so many packets is a jump, no loss (RFC 3550 appendix A.1)."""
MAX_MISORDER = 100
"""A step back of so many packets is a jump, no reordering (RFC 3550 appendix A.1)."""
LEAST_STEP_TICKS = CLOCK_RATE_HZ // 50
"""Between two epochs: a packet's length, so that they never share a timestamp."""

_ALL_PLACED = (1 << MAX_MISORDER) - 1


def unwrap(wrapped: int, near: int, bits: int) -> int:
    """The number closest to `near` whose low `bits` bits are `wrapped`."""
    half = 1 << (bits - 1)
    return near + ((wrapped - near + half) & ((1 << bits) - 1)) - half


class Timeline:
    """Places packets on one timeline that never breaks, and no two at the same sequence number.

    SRTP derives a packet's keystream from its SSRC and number, so a number may never be used for two packets (RFC 3711
    section 9.1).

    An epoch is a run of packets that are numbered in a row: its numbers are unwrapped and shifted, so that holes,
    pauses and order stay as they were. The next epoch's first packet gets the next sequence number, and a timestamp
    that is later by the time that passed. An epoch begins with `begin_epoch`, with an SSRC that is new, and where the
    numbers jump and go on from there: of a jump, and of the SSRC before the present one, the first packet is dropped,
    and the second in a row begins the epoch. Dropped are also packets from before the epoch's first, and those that
    were placed before.
    """

    def __init__(self) -> None:
        # RFC 3550 section 5.1 asks for a random start. Sequences start low, so that those who join soon after are in
        # the half that they start in.
        self.sequence = random.randrange(1 << 10, 1 << 14)
        """Of the newest packet, unwrapped."""
        self.timestamp = random.randrange(1 << 31)
        self.dropped_packets = 0
        self._ssrc: int | None = None
        """Of the present epoch; None before its first packet."""
        self._former_ssrc: int | None = None
        self._expected: tuple[int, int, int] | None = None
        """SSRC and sequence that would confirm a jump, if no newer packet than `sequence` was placed in between."""
        self._source_sequence = 0
        """Numbers that the newest packet came with."""
        self._source_timestamp = 0
        self._placed = _ALL_PLACED
        """Bit n: the number n below the newest is used up, by a packet or because it lies before the epoch."""
        self._arrived_s: float | None = None

    def begin_epoch(self) -> None:
        """The next packet begins an epoch, whatever its numbers."""
        self._ssrc = self._former_ssrc = None

    def place(self, ssrc: int, sequence: int, timestamp: int, arrived_s: float) -> tuple[int, int] | None:
        """The unwrapped (sequence, timestamp) of a packet, or None for one that is dropped and counted.

        `sequence` and `timestamp` are of 16 and 32 bits; `arrived_s` are monotonic seconds.
        """
        step = ((sequence - self._source_sequence + 0x8000) & 0xFFFF) - 0x8000
        if ssrc != self._ssrc or not -MAX_MISORDER < step < MAX_DROPOUT:
            return self._jump(ssrc, sequence, timestamp, arrived_s)
        ticks = ((timestamp - self._source_timestamp + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        if step > 0:
            self.sequence += step
            self.timestamp += ticks
            self._source_sequence, self._source_timestamp = sequence, timestamp
            self._placed = (self._placed << step | 1) & _ALL_PLACED
            self._arrived_s = arrived_s
            return self.sequence, self.timestamp
        if self._placed >> -step & 1:
            self.dropped_packets += 1
            return None
        self._placed |= 1 << -step
        return self.sequence + step, self.timestamp + ticks

    def _jump(self, ssrc: int, sequence: int, timestamp: int, arrived_s: float) -> tuple[int, int] | None:
        """Begins an epoch, if the SSRC is new or the packet before was dropped as the first of this jump."""
        is_confirmed = self._expected == (ssrc, sequence, self.sequence)
        if not is_confirmed and ssrc in (self._ssrc, self._former_ssrc):
            self._expected = ssrc, (sequence + 1) & 0xFFFF, self.sequence
            self.dropped_packets += 1
            return None
        if self._arrived_s is not None:
            self.sequence += 1
            self.timestamp += max(LEAST_STEP_TICKS, round((arrived_s - self._arrived_s) * CLOCK_RATE_HZ))
        if ssrc != self._ssrc:
            self._former_ssrc, self._ssrc = self._ssrc, ssrc
        self._source_sequence, self._source_timestamp = sequence, timestamp
        self._placed = _ALL_PLACED
        self._arrived_s = arrived_s
        return self.sequence, self.timestamp
