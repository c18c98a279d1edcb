"""The clock: simulated hours, jitter, and the interpolation."""

from __future__ import annotations

import random

import numpy as np
import pytest

from voice_streaming.media import playout
from voice_streaming.media.opus import CHANNELS
from voice_streaming.media.pcm import PcmBlock
from voice_streaming.media.playout import Playout, PlayoutCounters, stretched

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
