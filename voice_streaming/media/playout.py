"""A stream's blocks on a line that runs in real time, whatever the sender's clock and the network do.

No I/O and no clock: positions and times are counts of samples at CLOCK_RATE_HZ. The caller says how much is due, which
is how far real time has come; `place` and `be_silent` move `position`, which is how far the output has come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .opus import CHANNELS, CLOCK_RATE_HZ, Samples
from .pcm import PcmBlock, faded_in

MOST_EARLY_SAMPLES = CLOCK_RATE_HZ
"""A block that comes this much too early is of a timeline that has jumped."""

PAUSE_SAMPLES = CLOCK_RATE_HZ // 5
"""A hole in the source's timeline from which on it is a pause, after which speech may be placed afresh."""

CLOCK_TOLERANCE = 1e-3
"""How wrong a sender's clock may be: sound cards stay below 300 ppm."""

WINDOW_PACKETS = 250
"""Packets, about 5 s, over whose median arrival the sender's clock is judged, so that jitter does not matter."""

OUTLIER_SAMPLES = CLOCK_RATE_HZ // 5
"""A packet later than usual by more says something about the network, not about the sender's clock."""

RECENT_PACKETS = 25
LATE_SAMPLES = CLOCK_RATE_HZ // 5
"""When most of the last 25 packets were late, and came over 0.2 s and not all at once after a hold-up, then the way
has become longer for good."""

DEADBAND_SAMPLES = CLOCK_RATE_HZ // 500
"""2 ms that the delay may be off: less is noise of the measurement."""

CORRECTION_SAMPLES = 30 * CLOCK_RATE_HZ
"""The time within which a wrong delay is put right: 30 s, slower than the window, so that it cannot swing."""

MOST_STRETCH = 1e-3
"""Fastest correction: 0.1 % is a sixtieth of a semitone, which nobody hears."""

HUSHED = 327
"""Below 1 % of full scale, the breath between words, a block may be left out or silence put in, and nobody hears it."""

QUIET: Samples = np.zeros((3, CHANNELS), np.int16)


@dataclass
class PlayoutCounters:
    silence_samples: int = 0
    late_blocks: int = 0
    anchored: int = 0
    """How often the delay was set afresh."""


class Placed(NamedTuple):
    silence: int
    """Samples of silence that come first."""
    samples: Samples


class Arrivals:
    """How the sender's timestamps run against real time. A lead is a timestamp less what was due when it arrived."""

    def __init__(self) -> None:
        self._leads: deque[float] = deque(maxlen=WINDOW_PACKETS)
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_PACKETS)
        self._noted = 0
        self.usual: float | None = None
        """The median lead, taken anew every RECENT_PACKETS; None as long as there were fewer."""

    def note(self, timestamp: int, due: float) -> None:
        lead = timestamp - due
        self._recent.append((due, lead))
        if self.usual is not None and lead < self.usual - OUTLIER_SAMPLES:
            return
        self._leads.append(lead)
        self._noted += 1
        if self._noted % RECENT_PACKETS == 0:
            self.usual = float(np.median(self._leads))

    def lately(self, late: float) -> float | None:
        """The median lead of packets below the lead `late`, if most are that have come lately; else None."""
        those = [(due, lead) for due, lead in self._recent if lead < late]
        if 2 * len(those) <= RECENT_PACKETS or those[-1][0] - those[0][0] < LATE_SAMPLES:
            return None
        return float(np.median([lead for _, lead in those]))

    def forget(self) -> None:
        """What was usual no longer is."""
        self._leads.clear()
        self.usual = None


class Playout:
    """Puts a block that arrives when it usually does `margin` samples ahead of what is due: so late may others be."""

    def __init__(self, margin: int, counters: PlayoutCounters) -> None:
        self.position = 0
        """Samples put out since the start."""
        self.arrivals = Arrivals()
        """To be told of every packet, those that come too late as well."""
        self._margin = margin
        self._counters = counters
        self._offset: int | None = None
        """Adds to a timestamp to give its position."""
        self._end = 0
        """Timestamp at which the newest block ended."""
        self._is_silent = True
        self._tail = QUIET
        self._stretch_carry = 0.0

    def place(self, block: PcmBlock, due: float) -> Placed:
        """What follows at `position` now: the block, after silence where there is a gap; nothing for a late block.

        `due` is what was due when the block arrived.
        """
        samples = block.samples
        offset = self._anchored(block, due)
        self._end = block.timestamp + len(samples)
        gap = block.timestamp + offset - self.position
        if gap <= -len(samples):
            if not block.concealed:
                self._counters.late_blocks += 1
            return Placed(0, samples[:0])
        off = self._usually_off(offset)
        if abs(off) >= len(samples) and np.abs(samples).max() < HUSHED:
            # The delay is put right in one step: by leaving this block out, or by silence before it.
            self._offset = offset = offset - len(samples) if off > 0 else offset + len(samples)
            gap = block.timestamp + offset - self.position
            if gap <= -len(samples):
                self._is_silent = True
                return Placed(0, samples[:0])
        if gap > 0:
            self.be_silent(gap)
        elif gap < 0:
            samples = samples[-gap:]
        if self._is_silent:
            samples = faded_in(samples)
            self._is_silent = False
        if not block.concealed:
            samples = self._at_our_speed(samples, offset)
        self._tail = samples[-3:] if len(samples) >= 3 else np.concatenate([self._tail, samples])[-3:]
        self.position += len(samples)
        return Placed(max(gap, 0), samples)

    def be_silent(self, length: int) -> None:
        """Silence follows for that many samples, because nothing else came."""
        self.position += length
        self._is_silent = True
        self._tail = QUIET
        self._counters.silence_samples += length

    def _anchored(self, block: PcmBlock, due: float) -> int:
        """The offset, set afresh where the old one no longer fits."""
        if self._offset is None:
            return self._anchor(block, block.timestamp - due)
        early = block.timestamp + self._offset - due - self._margin
        if early > MOST_EARLY_SAMPLES or (self._is_silent and early > self._margin):
            return self._anchor(block, block.timestamp - due)
        pause = block.timestamp - self._end
        is_late = block.timestamp + self._offset < self.position
        if is_late and pause > PAUSE_SAMPLES and -early < 2 * self._margin + pause * CLOCK_TOLERANCE:
            return self._anchor(block, block.timestamp - due)
        if early < -self._margin:
            lately = self.arrivals.lately(-self._offset)
            if lately is not None:
                return self._anchor(block, lately)
        return self._offset

    def _anchor(self, block: PcmBlock, lead: float) -> int:
        """Sets the delay so that a block with this lead is just where it should be."""
        offset = max(self._margin - round(lead), self.position - block.timestamp)
        self._offset = offset
        self.arrivals.forget()
        self._stretch_carry = 0.0
        self._counters.anchored += 1
        return offset

    def _usually_off(self, offset: int) -> float:
        """How much earlier than by the margin packets usually come; 0 until that is known."""
        usual = self.arrivals.usual
        return usual + offset - self._margin if usual is not None else 0.0

    def _at_our_speed(self, samples: Samples, offset: int) -> Samples:
        """The samples, a few fewer or more where the sender's clock runs otherwise than ours."""
        early = self._usually_off(offset)
        if abs(early) < DEADBAND_SAMPLES:
            return samples
        self._stretch_carry -= len(samples) * max(-MOST_STRETCH, min(MOST_STRETCH, early / CORRECTION_SAMPLES))
        change = int(self._stretch_carry)
        if change == 0:
            return samples
        self._stretch_carry -= change
        self._offset = offset + change
        return stretched(self._tail, samples, len(samples) + change)


def stretched(before: Samples, samples: Samples, length: int) -> Samples:
    """The samples as `length` samples, joining on to the three `before` and ending where they end.

    Cubic (Catmull-Rom) interpolation: a linear one would dull consonants while it runs.
    """
    known = np.concatenate([before, samples, samples[-1:]]).astype(np.float32)
    at = 2 + np.arange(1, length + 1, dtype=np.float64) * (len(samples) / length)
    first = np.minimum(at.astype(np.intp), len(known) - 3)
    t = (at - first).astype(np.float32)[:, np.newaxis]
    a, b, c, d = known[first - 1], known[first], known[first + 1], known[first + 2]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    result: Samples = np.clip(np.rint(curve), -32768, 32767).astype(np.int16)
    return result
