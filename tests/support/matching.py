"""Is this recording that speech? Answered by numbers, whatever codecs, clocks and gain controls were on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.audio import SAMPLE_RATE_HZ, Samples, level_dbfs

# A score that says "the same speech" clearly, and that nothing else comes near. Measured with the espeak-ng speech of
# `speech.py` (tests/support/test_matching.py measures the codecs and the impostors again at every run):
#   Opus 32 kbit/s 0.98; Opus 12 kbit/s 0.96; MP3 128 kbit/s 1.00; Opus, then MP3 0.98; a clock 200 ppm off 0.95;
#   Chromium's microphone as it is 1.00, with its echo, noise and gain processing (which changes phases) 0.86;
#   Firefox's 0.88 to 0.99, with its processing 0.82; through a peer connection to the same page 0.73 to 0.98 (in the
#   first second 0.4: the jitter buffer stretches time, so record some seconds);
#   another text by the same voice 0.22, by another voice 0.17, the same speech backwards 0.23, noise at most 0.10,
#   a sine 0.12, silence 0.
SAME_SPEECH = 0.5
LOUD_DBFS = -45
"""Speech from a browser or a player is some 20 dB louder, silence and a muted microphone far below."""

# The band that carries speech through every codec and every browser's processing.
_LOWEST_HZ = 200
_HIGHEST_HZ = 3_400
# More than the band needs, so that half a sample of offset costs little of the correlation.
_RATE_HZ = 16_000
# Longer windows leave impostors less chance (2 s: 0.14 for another text), but suffer more from clocks that differ
# (2 s at 200 ppm: 0.82) and from jitter buffers that stretch time.
_WINDOW_S = 1.0
_STEP_S = 0.5
# Silence before and after the speech is no fault of the recording: blocks that are this much quieter than its loudest.
_BLOCK_S = 0.01
_QUIET_DB = 50
_ATTEMPTS = 4

_Band = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """One second of the recording from `start_s` on, where it fits best: at `reference_s` of the reference."""

    start_s: float
    reference_s: float
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """How well a recording fits; `duration_s` is its length without the silence before and after.

    `score` is the mean of the windows' scores, from 0 to 1: missing or foreign pieces lower it by their share.
    """

    score: float
    duration_s: float
    windows: tuple[Window, ...]


def match(reference: Samples, recording: Samples) -> Match:
    """Compare a recording with a reference that plays in a loop, of which it may hold any part, at any gain.

    Each window of the recording is compared with the reference at every offset, by normalised cross-correlation of the
    waveforms between 200 and 3400 Hz. So silence scores 0, wherever the recording has it between its sounds.
    """
    trimmed, start_s = _without_silent_ends(recording)
    duration_s = trimmed.size / SAMPLE_RATE_HZ
    if duration_s < _WINDOW_S:
        return Match(0.0, duration_s, ())
    finder = _Finder(_speech_band(reference))
    band = _speech_band(trimmed)
    size, step = int(_WINDOW_S * _RATE_HZ), int(_STEP_S * _RATE_HZ)
    windows = []
    for begin in range(0, band.size - size + 1, step):
        score, offset = finder.find(band[begin : begin + size])
        windows.append(Window(start_s + begin / _RATE_HZ, offset / _RATE_HZ, score))
    return Match(float(np.mean([window.score for window in windows])), duration_s, tuple(windows))


def assert_same_speech(
    reference: Samples, recording: Samples, *, at_least_s: float = 3.0, score: float = SAME_SPEECH
) -> Match:
    """Fail unless the recording holds at least that long a piece of the reference; return how it matched."""
    found = match(reference, recording)
    scores = " ".join(f"{window.score:.2f}" for window in found.windows)
    facts = (
        f"score {found.score:.2f} (needed: {score}) over {found.duration_s:.1f} s (needed: {at_least_s}); level "
        f"{level_dbfs(recording):.0f} dBFS over {recording.size / SAMPLE_RATE_HZ:.1f} s; per second: {scores or 'none'}"
    )
    assert found.duration_s >= at_least_s, f"too little sound: {facts}"
    assert found.score >= score, f"not the same speech: {facts}"
    return found


async def assert_heard(speech: Samples, take: Callable[[], Awaitable[Samples]], *, at_least_s: float = 3) -> None:
    """What `take` records is the speech.

    It is recorded anew when it is choppy: on a busy machine browsers lose time at both ends. That makes no other sound
    pass for the speech: see SAME_SPEECH.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        recording = await take()
        try:
            assert level_dbfs(recording) > LOUD_DBFS
            assert_same_speech(speech, recording, at_least_s=at_least_s)
            break
        except AssertionError:
            if attempt == _ATTEMPTS:
                raise


class _Finder:
    """Finds windows in a looped reference."""

    def __init__(self, reference: _Band) -> None:
        size = int(_WINDOW_S * _RATE_HZ)
        looped = np.resize(reference, reference.size + size)
        self._length = 1 << (looped.size + size).bit_length()
        self._spectrum = np.fft.rfft(looped, self._length)
        power = np.concatenate([[0.0], np.cumsum(np.square(looped))])
        self._energies = power[size : size + reference.size] - power[: reference.size]

    def find(self, window: _Band) -> tuple[float, int]:
        """Return the best normalised correlation, 0 to 1, and its offset in the reference."""
        products = np.fft.irfft(self._spectrum * np.conj(np.fft.rfft(window, self._length)), self._length)
        energy = float(np.sum(np.square(window)))
        # Digital silence correlates with nothing, and must not be divided by.
        norms = np.sqrt(np.maximum(self._energies * energy, 1e-12))
        correlations = products[: self._energies.size] / norms
        best = int(np.argmax(correlations))
        return max(0.0, float(correlations[best])), best


def _speech_band(samples: Samples) -> _Band:
    """Return the speech band of the samples, at `_RATE_HZ`."""
    # Whole seconds have small prime factors, for a fast transform, and the same number of periods at both rates.
    seconds = -(-samples.size // SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(samples.astype(np.float64), seconds * SAMPLE_RATE_HZ)
    frequencies = np.fft.rfftfreq(seconds * SAMPLE_RATE_HZ, 1 / SAMPLE_RATE_HZ)
    spectrum[(frequencies < _LOWEST_HZ) | (frequencies > _HIGHEST_HZ)] = 0
    band = np.fft.irfft(spectrum[: seconds * _RATE_HZ // 2 + 1], seconds * _RATE_HZ)
    return band[: samples.size * _RATE_HZ // SAMPLE_RATE_HZ]


def _without_silent_ends(samples: Samples) -> tuple[Samples, float]:
    """Return what is between the first and the last sound, and when that begins, in seconds."""
    block = int(_BLOCK_S * SAMPLE_RATE_HZ)
    blocks = samples[: samples.size // block * block].reshape(-1, block)
    power = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    if not power.any():
        return samples[:0], 0.0
    loud = np.flatnonzero(power > power.max() * 10 ** (-_QUIET_DB / 10))
    begin, end = int(loud[0]) * block, (int(loud[-1]) + 1) * block
    return samples[begin:end], begin / SAMPLE_RATE_HZ
