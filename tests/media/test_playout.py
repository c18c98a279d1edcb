"""The clock: simulated hours, jitter, and the interpolation."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from voice_streaming.media import playout
from voice_streaming.media.opus import CHANNELS, Samples
from voice_streaming.media.pcm import PcmBlock
from voice_streaming.media.playout import (
    LATE_SAMPLES,
    OUTLIER_SAMPLES,
    RECENT_PACKETS,
    Arrivals,
    Playout,
    PlayoutCounters,
    stretched,
)

MARGIN = 1920
BLOCK = 5760
"""120 ms, the longest packet of Opus: a sixth of the work of 20 ms."""
HOUR = 3600 * 48_000


class Sender:
    """Blocks of a sender whose clock is off by `ppm`, arriving up to `jitter` late; the output takes what is due."""

    def __init__(self, ppm: float, jitter: int, level: int = 1000, seed: int = 1) -> None:
        self.counters = PlayoutCounters()
        self.playout = Playout(MARGIN, self.counters)
        self.slacks: list[float] = []
        """How far the output was ahead of what was due after each block."""
        self._dice = random.Random(seed)
        self._per_sample = 1 / (1 + ppm * 1e-6)
        self._jitter = jitter
        self._samples = np.full((BLOCK, CHANNELS), level, np.int16)
        self._timestamp = 12_345

    def run(self, duration: int, first_late: int = 0) -> None:
        begun = self._timestamp
        while self._timestamp - begun < duration:
            sent = (self._timestamp - begun + BLOCK) * self._per_sample
            due = sent + self._dice.randrange(self._jitter + 1) + (first_late if self._timestamp == begun else 0)
            if self.playout.position < due:
                self.playout.be_silent(int(due) - self.playout.position)
            self.playout.arrivals.note(self._timestamp, due)
            self.playout.place(PcmBlock(self._samples, self._timestamp, False, 0.0), due)
            self.slacks.append(self.playout.position - BLOCK - sent)
            self._timestamp += BLOCK


@pytest.mark.parametrize(("ppm", "duration"), [(200, 3 * HOUR), (-200, HOUR)])
def test_a_senders_clock_that_is_wrong(ppm: float, duration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For hours: without a correction, 0.7 s in each. The samples' values, which take the most time, are left out."""
    values = np.zeros((2 * BLOCK, CHANNELS), np.int16)
    monkeypatch.setattr(playout, "stretched", lambda before, samples, length: values[:length])
    sender = Sender(ppm, jitter=960)
    sender.run(duration)
    # The delay stays within 12 ms, for which the jitter's median, 10 ms, has to be added to the margin.
    settled = np.array(sender.slacks[500:])
    assert settled.min() > MARGIN + 480 - 576
    assert settled.max() < MARGIN + 480 + 576
    # Once it starts, and never again: neither did the buffer run dry, nor was anything dropped.
    assert sender.counters.silence_samples <= BLOCK + MARGIN + 960
    assert (sender.counters.late_blocks, sender.counters.anchored) == (0, 1)


def test_a_right_clock_is_left_alone() -> None:
    sender = Sender(0, jitter=0)
    sender.run(600 * 48_000)
    assert set(sender.slacks) == {MARGIN}


@pytest.mark.parametrize(("level", "within_s", "left"), [(100, 6, BLOCK), (10_000, 400, 480)])
def test_a_delay_that_the_first_packet_set_wrong_is_put_right_the_sooner_where_nobody_hears_it(
    level: int, within_s: int, left: int
) -> None:
    sender = Sender(0, jitter=0, level=level)
    sender.run(within_s * 48_000, first_late=3 * BLOCK)
    assert max(sender.slacks[:10]) == MARGIN + 3 * BLOCK
    assert abs(sender.slacks[-1] - MARGIN) <= left


def test_stretching_moves_no_pitch_and_makes_no_step() -> None:
    tone = 12_000 * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(960 * 6))
    samples = np.repeat(tone[:, np.newaxis], CHANNELS, axis=1).astype(np.int16)
    pieces = [samples[:960]]
    for begin in range(960, len(samples), 960):
        pieces.append(stretched(pieces[-1][-3:], samples[begin : begin + 960], 961))
    out = np.concatenate(pieces)[:, 0].astype(float)
    assert len(out) == 960 + 5 * 961
    positions = np.concatenate([np.arange(960), 959 + np.arange(1, 961 * 5 + 1) * 960 / 961])
    ideal = 12_000 * np.sin(2 * np.pi * 1000 / 48_000 * positions)
    assert np.sqrt(np.mean((out - ideal) ** 2)) < 12_000 * 10 ** (-55 / 20)


@pytest.mark.parametrize("change", [-3, -1, 1, 3])
def test_stretching_is_catmull_rom(change: int) -> None:
    """Against the spline by its definition: Hermite's cubic between two samples, with the slopes of their neighbours.

    Noise shows a wrong sign or weight of any term, where a tone does not.
    """
    dice = np.random.default_rng(5)
    before = dice.integers(-9_000, 9_000, (3, CHANNELS)).astype(np.int16)
    samples = dice.integers(-9_000, 9_000, (960, CHANNELS)).astype(np.int16)
    length = len(samples) + change
    known = np.concatenate([before, samples, samples[-1:]]).astype(float)
    expected = np.empty((length, CHANNELS))
    for number in range(length):
        at = 2 + (number + 1) * len(samples) / length
        first = min(int(at), len(known) - 3)
        t = at - first
        start, end = known[first], known[first + 1]
        start_slope, end_slope = (end - known[first - 1]) / 2, (known[first + 2] - start) / 2
        expected[number] = (
            (2 * t**3 - 3 * t**2 + 1) * start
            + (t**3 - 2 * t**2 + t) * start_slope
            + (3 * t**2 - 2 * t**3) * end
            + (t**3 - t**2) * end_slope
        )
    result = stretched(before, samples, length)
    assert np.abs(result - expected).max() <= 1
    assert (result[-1] == samples[-1]).all(), "it ends where they end"


@pytest.mark.parametrize("change", [-1, 1, 10])
def test_a_parabola_is_stretched_into_the_same_parabola(change: int) -> None:
    """Catmull-Rom interpolation gives back every polynomial of second degree."""

    def parabola(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return at * at / 20 - 3 * at + 5

    whole = np.repeat(parabola(np.arange(-3.0, 500.0))[:, np.newaxis], CHANNELS, axis=1).round().astype(np.int16)
    before, samples = whole[:3], whole[3:]
    length = len(samples) + change
    out = stretched(before, samples, length)
    positions = np.arange(1, length + 1) * len(samples) / length - 1
    assert out.shape == (length, CHANNELS)
    assert np.array_equal(out[-1], samples[-1])
    # Of the piece before the last sample, the curve does not know how it goes on.
    known = positions < len(samples) - 2
    assert np.abs(out[known, 0] - parabola(positions[known])).max() <= 1.2


def test_stretching_does_not_wrap_at_full_scale() -> None:
    """Between two samples at full scale the curve goes beyond it where those around are low."""
    square = np.repeat(np.array([32_767] * 5 + [-32_768] * 5, np.int16), 10)
    samples = np.repeat(square[:, np.newaxis], CHANNELS, axis=1)
    out = stretched(samples[:3], samples[3:], len(samples) + 10)[:, 0].astype(int)
    assert (out.max(), out.min()) == (32_767, -32_768)
    assert np.count_nonzero(np.diff(np.sign(out))) == 1, "a sample that wrapped has the other sign"


# Arrivals


def test_the_usual_lead_is_the_median_and_known_only_after_enough_packets() -> None:
    arrivals = Arrivals()
    for index in range(RECENT_PACKETS - 1):
        arrivals.note(index * 960, index * 960 + (index % 5) * 10)
        assert arrivals.usual is None
    arrivals.note((RECENT_PACKETS - 1) * 960, (RECENT_PACKETS - 1) * 960 + 40)
    assert arrivals.usual == -20
    arrivals.forget()
    assert arrivals.usual is None


def test_a_packet_much_later_than_usual_does_not_count_for_what_is_usual() -> None:
    arrivals = Arrivals()
    for index in range(RECENT_PACKETS):
        arrivals.note(index * 960, index * 960)
    for _ in range(2 * RECENT_PACKETS):
        arrivals.note(0, OUTLIER_SAMPLES + 1)
    assert arrivals.usual == 0
    for _ in range(2 * RECENT_PACKETS):
        arrivals.note(0, OUTLIER_SAMPLES)
    assert arrivals.usual == -OUTLIER_SAMPLES


def test_a_median_of_late_packets_is_told_only_when_most_are_late_and_for_long_enough() -> None:
    step = LATE_SAMPLES // (RECENT_PACKETS // 2) + 1
    arrivals = Arrivals()
    for index in range(RECENT_PACKETS):
        # Every other packet is late.
        arrivals.note(index * step - (5000 if index % 2 else 0), index * step)
    assert arrivals.median_if_mostly_below(-1000) is None
    for index in range(RECENT_PACKETS, 2 * RECENT_PACKETS):
        arrivals.note(index * step - 5000, index * step)
    assert arrivals.median_if_mostly_below(-1000) == -5000
    assert arrivals.median_if_mostly_below(-5000) is None
    at_once = Arrivals()
    for _ in range(RECENT_PACKETS):
        at_once.note(-5000, 0)
    assert at_once.median_if_mostly_below(-1000) is None


# Blocks


def block_of(samples: Samples, timestamp: int, *, concealed: bool = False) -> PcmBlock:
    return PcmBlock(samples, timestamp, concealed, 0.0)


def level_block(level: int = 10_000) -> Samples:
    return np.full((960, CHANNELS), level, np.int16)


def test_a_block_that_is_too_late_is_counted_unless_it_was_made_up() -> None:
    counters = PlayoutCounters()
    playout = Playout(MARGIN, counters)
    assert playout.place(block_of(level_block(), 0), 0).silence == MARGIN
    playout.be_silent(3 * 960)
    assert counters.silence_samples == MARGIN + 3 * 960
    for concealed, late_blocks in ((True, 0), (False, 1)):
        placed = playout.place(block_of(level_block(), 960, concealed=concealed), 960)
        assert (placed.silence, len(placed.samples)) == (0, 0)
        assert counters.late_blocks == late_blocks
    assert playout.position == MARGIN + 4 * 960


def test_a_delay_is_put_right_by_no_more_than_a_thousandth() -> None:
    sender = Sender(0, jitter=0, level=10_000)
    sender.run(60 * 48_000, first_late=3 * BLOCK)
    assert sender.slacks[-1] < sender.slacks[0]
    assert np.abs(np.diff(sender.slacks)).max() <= BLOCK / 1000 + 1


def test_sound_fades_in_after_a_quiet_block_that_was_left_out() -> None:
    playout = Playout(MARGIN, PlayoutCounters())
    late = 4 * 960
    # The first comes late, and sets the delay that much too long.
    playout.place(block_of(level_block(), 0), late)
    playout.arrivals.note(0, late)
    for index in range(1, 10 * RECENT_PACKETS):
        playout.arrivals.note(index * 960, index * 960)
        placed = playout.place(block_of(level_block(), index * 960), index * 960)
        if playout.arrivals.usual is not None:
            break
    assert placed.samples[0, 0] == 10_000
    after = (index + 1) * 960
    assert len(playout.place(block_of(level_block(10), after), after).samples) == 0
    assert playout.place(block_of(level_block(), after + 960), after + 960).samples[0, 0] == 0


def test_a_tone_of_a_wrong_clock_has_no_step() -> None:
    playout = Playout(MARGIN, PlayoutCounters())
    tone = (12_000 * np.sin(2 * np.pi * 500 / 48_000 * np.arange(960 * 2500))).astype(np.int16)
    pieces = []
    for index in range(2500):
        samples = np.repeat(tone[index * 960 : (index + 1) * 960, np.newaxis], CHANNELS, axis=1)
        due = index * 960 / 1.0003
        playout.arrivals.note(index * 960, due)
        pieces.append(playout.place(block_of(samples, index * 960), due).samples)
    assert sum(len(piece) != 960 for piece in pieces) > 50, "nothing was stretched"
    out = np.concatenate(pieces)[960:, 0].astype(int)
    assert np.abs(np.diff(out)).max() <= 1.02 * np.abs(np.diff(tone.astype(int))).max()


def test_a_block_that_comes_in_time_is_not_moved_although_most_came_late() -> None:
    """Those that were too late to be decoded say nothing as long as others are not."""
    counters = PlayoutCounters()
    playout = Playout(MARGIN, counters)
    playout.place(block_of(level_block(), 0), 0)
    for index in range(1, RECENT_PACKETS):
        playout.arrivals.note(index * 960, index * 960 + 5000)
    assert playout.arrivals.median_if_mostly_below(-MARGIN) == -5000
    in_time = playout.place(block_of(level_block(), 960), 960)
    assert (in_time.silence, len(in_time.samples), counters.anchored) == (0, 960, 1)
    # One that is late is heard, with the delay that most would need.
    late = playout.place(block_of(level_block(), 1920), 1920 + 5000)
    assert (late.silence, counters.anchored) == (5000, 2)
