"""Level, peak and spectrum of a voice, about ten times a second.

Levels are in dBFS, and follow one convention throughout: 0 dBFS is the largest sample, and a sine that reaches it has
a peak of 0 dBFS and an RMS level of -3.01 dBFS (not the 0 of AES17). The band that holds the sine reads that RMS level
too, so that the powers of all bands add up to the level, as far as the bands reach.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .opus import CLOCK_RATE_HZ

INTERVAL_SAMPLES = CLOCK_RATE_HZ // 10
"""One analysis per 100 ms: as often as an eye follows a meter."""

FULL_SCALE = 32_768
"""The largest 16-bit sample: 0 dBFS."""

WINDOW_SAMPLES = 8192
"""171 ms. Half of a Hann window's height spans half of its length, so that with a new window every 100 ms no sample
is left out; and 5.9 Hz between bins puts several into the lowest bands."""

BANDS = 32
LOWEST_HZ, HIGHEST_HZ = 80.0, 16_000.0
"""From the lowest voices to the end of what a telephone headset or MP3 of a voice carries."""

FLOOR_DB = -100.0
"""The level of silence; 16-bit samples reach down to about -96."""


Samples = npt.NDArray[np.int16]
"""Shape (samples, channels), at CLOCK_RATE_HZ."""


class Analysis(NamedTuple):
    """One analysis of a voice, in dBFS rounded to 0.1, never below FLOOR_DB."""

    level: float
    """RMS over all channels of the last INTERVAL_SAMPLES."""
    peak: float
    """The largest sample of the same."""
    spectrum: list[float]
    """BANDS values, from the lowest band to the highest, over the last WINDOW_SAMPLES and all channels."""


SILENCE = Analysis(FLOOR_DB, FLOOR_DB, [FLOOR_DB] * BANDS)


def band_edges_hz() -> npt.NDArray[np.float64]:
    """BANDS + 1 frequencies, each the same factor (about a quarter of an octave) above the one before."""
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)


class Analyser:
    """Takes the samples of one voice in order, in pieces of any length, and analyses them every INTERVAL_SAMPLES.

    A tone reads its own level to within 0.1 dB, to within 0.6 dB in the lowest bands, which are narrower than the
    window's response to a tone; on the edge of two bands, half of its power is in each.
    """

    def __init__(self, channels: int = 2) -> None:
        window = np.hanning(WINDOW_SAMPLES + 1)[:-1]
        self._window = window.astype(np.float32)
        # Parseval's theorem for a one-sided spectrum, with the power that the window takes given back: the squares of
        # the bins times this add up to the mean square of the samples.
        self._power_of_bin = 2 / (WINDOW_SAMPLES * float(np.sum(window**2)))
        # Bin k stands for the frequencies from k - 1/2 to k + 1/2, which two bands may share.
        self._edges_in_bins = band_edges_hz() * WINDOW_SAMPLES / CLOCK_RATE_HZ + 0.5
        self._bins = int(self._edges_in_bins[-1]) + 2
        self._bin_edges = np.arange(self._bins + 1)
        self._recent = np.zeros((channels, WINDOW_SAMPLES), np.float32)
        """Full scale is 1. The last INTERVAL_SAMPLES fill up, and move to the left when they have been analysed."""
        self._fresh = 0

    def feed(self, samples: Samples) -> Analysis | None:
        """The newest analysis if these samples completed one, else None. The samples are copied."""
        analysis = None
        while len(samples):
            begin = WINDOW_SAMPLES - INTERVAL_SAMPLES + self._fresh
            taken = min(len(samples), WINDOW_SAMPLES - begin)
            np.multiply(samples[:taken].T, np.float32(1 / FULL_SCALE), out=self._recent[:, begin : begin + taken])
            samples = samples[taken:]
            self._fresh += taken
            if self._fresh == INTERVAL_SAMPLES:
                analysis = self._analyse()
                self._recent[:, :-INTERVAL_SAMPLES] = self._recent[:, INTERVAL_SAMPLES:]
                self._fresh = 0
        return analysis

    def clear(self) -> None:
        """Forgets all samples, as the next ones do not continue them."""
        self._recent[:] = 0
        self._fresh = 0

    def _analyse(self) -> Analysis:
        recent = self._recent
        if len(recent) == 2 and np.array_equal(recent[0], recent[1]):
            # Nearly every microphone is mono, and decodes to two channels alike.
            recent = recent[:1]
        newest = recent[:, -INTERVAL_SAMPLES:]
        peak = max(float(newest.max()), -float(newest.min()))
        level_power = float(np.mean([np.dot(channel, channel) for channel in newest])) / INTERVAL_SAMPLES
        bins = np.fft.rfft(recent * self._window)[:, : self._bins]
        power = (np.square(bins.real) + np.square(bins.imag)).mean(axis=0, dtype=np.float64) * self._power_of_bin
        up_to_edge = np.concatenate(([0.0], np.cumsum(power)))
        bands = np.diff(np.interp(self._edges_in_bins, self._bin_edges, up_to_edge))
        level_db, peak_db, *spectrum_db = _decibels(np.array([level_power, peak**2, *bands]))
        return Analysis(level_db, peak_db, spectrum_db)


def _decibels(powers: npt.NDArray[np.float64]) -> list[float]:
    floor = 10 ** (FLOOR_DB / 10)
    # Adding 0 makes 0.0 of the -0.0 that rounding leaves.
    decibels: list[float] = (np.round(10 * np.log10(np.maximum(powers, floor)), 1) + 0.0).tolist()
    return decibels
