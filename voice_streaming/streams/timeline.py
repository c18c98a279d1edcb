"""One timeline for all packets of a track, whoever sends them."""

from __future__ import annotations

import random

from ..media.opus import CLOCK_RATE_HZ


def unwrap(wrapped: int, near: int, bits: int) -> int:
    """The number closest to `near` whose low `bits` bits are `wrapped`."""
    half = 1 << (bits - 1)
    return near + ((wrapped - near + half) & ((1 << bits) - 1)) - half


class Timeline:
    """BatchProtection a sender's packets on one timeline that never breaks.

    The source's numbers are unwrapped and shifted, so holes, pauses and order stay as they were. When the SSRC changes
    (a new track, a sender that came back), the sequence goes on with the next number and the timestamp advances by the
    time that passed.
    """

    def __init__(self) -> None:
        # RFC 3550 section 5.1 asks for a random start. Sequences start low, so that a packet from before the first one
        # does not wrap.
        self.sequence = random.randrange(1 << 10, 1 << 14)
        self.timestamp = random.randrange(1 << 31)
        self._ssrc: int | None = None
        self._source_sequence = 0
        self._source_timestamp = 0
        self._arrived_s = 0.0

    def place(self, ssrc: int, sequence: int, timestamp: int, arrived_s: float) -> tuple[int, int]:
        """The unwrapped (sequence, timestamp) of a packet; `arrived_s` are monotonic seconds."""
        if ssrc != self._ssrc:
            self._join(ssrc, sequence, timestamp, arrived_s)
        sequence = unwrap(sequence, self._source_sequence, 16)
        timestamp = unwrap(timestamp, self._source_timestamp, 32)
        placed = self.sequence + sequence - self._source_sequence, self.timestamp + timestamp - self._source_timestamp
        if sequence > self._source_sequence:
            self.sequence, self.timestamp = placed
            self._source_sequence, self._source_timestamp = sequence, timestamp
            self._arrived_s = arrived_s
        return placed

    def _join(self, ssrc: int, sequence: int, timestamp: int, arrived_s: float) -> None:
        if self._ssrc is not None:
            self.sequence += 1
            # At least a packet's length, so that two sources never share a timestamp.
            self.timestamp += max(CLOCK_RATE_HZ // 50, round((arrived_s - self._arrived_s) * CLOCK_RATE_HZ))
        self._ssrc = ssrc
        self._source_sequence, self._source_timestamp = sequence, timestamp
        self._arrived_s = arrived_s
