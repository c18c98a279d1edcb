"""Playout in real time: turns a stream's blocks into continuous samples, whatever jitter and clock drift they have.

No I/O and no clock: positions, timestamps and times are counts of samples at CLOCK_RATE_HZ. The caller passes real time
as `due`, the number of samples that should have been played by then. `position` is the number that have been played;
only `place` and `be_silent` advance it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .opus import CHANNELS, CLOCK_RATE_HZ, Samples
from .pcm import PcmBlock, faded_in

MOST_EARLY_SAMPLES = CLOCK_RATE_HZ
"""A block that is earlier than expected by more shows that the sender's timeline has jumped."""

PAUSE_SAMPLES = CLOCK_RATE_HZ // 5
"""A longer gap in the source's timeline is a pause, after which the delay may be set anew."""

CLOCK_TOLERANCE = 1e-3
"""How wrong a sender's clock may be: sound cards stay below 300 ppm."""

WINDOW_PACKETS = 250
"""Packets, about 5 s, whose median lead measures the sender's clock, so that jitter cancels out."""

OUTLIER_SAMPLES = CLOCK_RATE_HZ // 5
"""A packet that is later than usual by more was delayed by the network, and is left out of the clock's measurement."""

SPREAD_SHARE = 25
"""One packet of so many may be later than `Arrivals.spread` says: to wait for the rarest would delay all of them."""

RECENT_PACKETS = 25
LATE_SAMPLES = CLOCK_RATE_HZ // 5
"""Time over which late packets must have come: when most of the last RECENT_PACKETS were late, and did not arrive in
one burst, then the network's delay has grown for good."""

DEADBAND_SAMPLES = CLOCK_RATE_HZ // 500
"""2 ms: a smaller error of the delay is not corrected, as it is noise of the measurement."""

CORRECTION_SAMPLES = 30 * CLOCK_RATE_HZ
"""Time constant of the delay's correction: 30 s, longer than the measurement's window, so that it cannot oscillate."""

MOST_STRETCH = 1e-3
"""Fastest correction: 0.1 % is a sixtieth of a semitone, which is inaudible."""

PAUSE_PEAK = 327
"""1 % of full scale: below it, as between words, a block can be left out or silence inserted inaudibly."""

SILENT_TAIL: Samples = np.zeros((3, CHANNELS), np.int16)


@dataclass
class PlayoutCounters:
    silence_samples: int = 0
    late_blocks: int = 0
    anchored: int = 0
    """How often the delay was set anew."""


class Placed(NamedTuple):
    silence: int
    """Samples of silence that come first."""
    samples: Samples


class Arrivals:
    """Measures the sender's clock against real time. A packet's lead is its timestamp minus `due` at its arrival."""

    def __init__(self) -> None:
        self._leads: deque[float] = deque(maxlen=WINDOW_PACKETS)
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_PACKETS)
        self._noted = 0
        self.usual: float | None = None
        """The median lead, updated every RECENT_PACKETS; None before the first."""
        self.spread = 0.0
        """By how much packets are later than usual, all but one of SPREAD_SHARE; updated with `usual`."""

    def note(self, timestamp: int, due: float) -> None:
        lead = timestamp - due
        self._recent.append((due, lead))
        if self.usual is not None and lead < self.usual - OUTLIER_SAMPLES:
            return
        self._leads.append(lead)
        self._noted += 1
        if self._noted % RECENT_PACKETS == 0:
            ordered = np.sort(self._leads)
            self.usual = float(np.median(ordered))
            self.spread = self.usual - float(ordered[len(ordered) // SPREAD_SHARE])

    def median_if_mostly_below(self, lead_limit: float) -> float | None:
        """The median lead of the recent packets whose lead is below the limit.

        None unless they are the majority of the last RECENT_PACKETS and arrived over at least LATE_SAMPLES.
        """
        late = [(due, lead) for due, lead in self._recent if lead < lead_limit]
        if 2 * len(late) <= RECENT_PACKETS or late[-1][0] - late[0][0] < LATE_SAMPLES:
            return None
        return float(np.median([lead for _, lead in late]))

    def forget(self) -> None:
        """Starts the measurement of `usual` anew."""
        self._leads.clear()
        self.usual = None


class Playout:
    """Delays the stream so that packets usually arrive `margin` samples early: that much jitter is absorbed.

    `margin` may be set at any time; the delay follows as slowly as it follows the sender's clock. After silence, a
    block that is late by up to `most_growth` samples is played whole, and the delay grows by that at once.
    """

    def __init__(self, margin: int, counters: PlayoutCounters, *, start: int = 0, most_growth: int = 0) -> None:
        """`start` is the position that it begins at."""
        self.position = start
        """Samples played, counted from where `due` is 0."""
        self.margin = margin
        self.arrivals = Arrivals()
        """Its `note` is to be called for every packet, also for those that are too late to be decoded."""
        self._most_growth = most_growth
        self._counters = counters
        self._offset: int | None = None
        """Adds to a timestamp to give its position."""
        self._end = 0
        """Timestamp at which the newest block ended."""
        self._is_silent = True
        self._tail = SILENT_TAIL
        self._stretch_carry = 0.0

    def place(self, block: PcmBlock, due: float) -> Placed:
        """The samples that follow at `position`: silence for a gap, then the block; nothing for a block that is late.

        `due` is that of the block's arrival.
        """
        samples = block.samples
        offset = self._anchored(block, due)
        self._end = block.timestamp + len(samples)
        gap = block.timestamp + offset - self.position
        if gap <= -len(samples):
            if not block.concealed:
                self._counters.late_blocks += 1
            return Placed(0, samples[:0])
        error = self._delay_error(offset)
        if abs(error) >= len(samples) and np.abs(samples).max() < PAUSE_PEAK:
            # The delay is corrected in one step: by leaving this block out, or by silence before it.
            offset = offset - len(samples) if error > 0 else offset + len(samples)
            self._offset = offset
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
            samples = self._drift_corrected(samples, offset)
        self._tail = samples[-3:] if len(samples) >= 3 else np.concatenate([self._tail, samples])[-3:]
        self.position += len(samples)
        return Placed(max(gap, 0), samples)

    def be_silent(self, length: int) -> None:
        """Plays `length` samples of silence, as no block has come in time."""
        self.position += length
        self._is_silent = True
        self._tail = SILENT_TAIL
        self._counters.silence_samples += length

    def _anchored(self, block: PcmBlock, due: float) -> int:
        """The offset for the block, set anew where the present one no longer fits."""
        if self._offset is None:
            return self._anchor(block, block.timestamp - due)
        early = block.timestamp + self._offset - due - self.margin
        if early > MOST_EARLY_SAMPLES or (self._is_silent and early > self.margin):
            return self._anchor(block, block.timestamp - due)
        pause = block.timestamp - self._end
        is_late = block.timestamp + self._offset < self.position
        if is_late and pause > PAUSE_SAMPLES and -early < 2 * self.margin + pause * CLOCK_TOLERANCE:
            return self._anchor(block, block.timestamp - due)
        if self._is_silent and 0 < self.position - block.timestamp - self._offset <= self._most_growth:
            return self._anchor(block, block.timestamp - due)
        if early < -self.margin:
            late_lead = self.arrivals.median_if_mostly_below(-self._offset)
            if late_lead is not None:
                return self._anchor(block, late_lead)
        return self._offset

    def _anchor(self, block: PcmBlock, lead: float) -> int:
        """Sets the delay so that a block with this lead is `margin` samples early, but does not overlap the past."""
        offset = max(self.margin - round(lead), self.position - block.timestamp)
        self._offset = offset
        self.arrivals.forget()
        self._stretch_carry = 0.0
        self._counters.anchored += 1
        return offset

    def _delay_error(self, offset: int) -> float:
        """By how many samples more than `margin` packets are usually early; 0 until that is known."""
        usual = self.arrivals.usual
        return usual + offset - self.margin if usual is not None else 0.0

    def _drift_corrected(self, samples: Samples, offset: int) -> Samples:
        """The samples, stretched or shortened by a few where the sender's clock drifts from ours."""
        early = self._delay_error(offset)
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
    """The samples interpolated to `length` samples, continuous with the three `before`; the last sample stays the last.

    Cubic (Catmull-Rom) interpolation: a linear one would attenuate high frequencies.
    """
    known = np.concatenate([before, samples, samples[-1:]]).astype(np.float32)
    at = 2 + np.arange(1, length + 1, dtype=np.float64) * (len(samples) / length)
    first = np.minimum(at.astype(np.intp), len(known) - 3)
    t = (at - first).astype(np.float32)[:, np.newaxis]
    a, b, c, d = known[first - 1], known[first], known[first + 1], known[first + 2]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    result: Samples = np.clip(np.rint(curve), -32768, 32767).astype(np.int16)
    return result
