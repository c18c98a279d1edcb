"""How loud a voice is while it speaks, and a gain that brings all voices to the same loudness. No I/O, no clock.

Levels are in dBFS as in `levels`: a sine that reaches full scale has -3.01.
"""

from __future__ import annotations

import math

import numpy as np

from .opus import CLOCK_RATE_HZ, Sound

TARGET_DB = -23.0
"""RMS level of speech: what a browser's automatic gain control brings most voices to, 20 dB below the loudest peaks."""

MOST_GAIN_DB = 10.0
"""More would bring up the noise of a room; less would be forced upon who speaks softly on purpose."""

GAIN_DB_PER_S = 4.0
"""Fastest change: too slow to be heard as one."""

MEMORY_S = 3.0
"""Time of speech over which its level is averaged: a sentence."""

LEAST_HEARD_S = 0.3
"""Of speech, before anything is concluded from it."""

SPEECH_ABOVE_FLOOR_DB = 10.0
"""Speech is that much louder than the noise behind it."""

QUIETEST_SPEECH_DB = -55.0

FLOOR_LIMITS_DB = (-70.0, -40.0)
"""Of the noise behind a voice. Whatever is louder than the second and SPEECH_ABOVE_FLOOR_DB together is no pause."""

FLOOR_RISE_DB_PER_S = 2.0
"""The floor is the lowest level of late: every pause between two syllables brings it back down at once."""


class Loudness:
    """Of one voice, whose samples it takes in order, in pieces of a packet's length.

    Pieces that are no speech change no gain: a pause does not bring up the noise. With `evens` False it only tells
    speech from pauses.
    """

    def __init__(self, *, evens: bool = True) -> None:
        self.is_speech = False
        """Whether the newest piece is."""
        self.gain_db = 0.0
        self._evens = evens
        self._floor_db = -60.0
        self._heard_s = 0.0
        """Time of speech that `_power` is the mean of, MEMORY_S at most."""
        self._power = 0.0
        """Mean square of the speech."""

    def evened(self, sound: Sound) -> Sound:
        """The samples with the gain that follows from them and from those before; perhaps the same array."""
        if not len(sound):
            return sound
        length_s = len(sound) / CLOCK_RATE_HZ
        self._listen(float(np.dot(sound, sound)) / len(sound), length_s)
        if not self._evens:
            return sound
        former_db = self.gain_db
        if self.is_speech and self._heard_s >= LEAST_HEARD_S:
            self.gain_db = self._next_gain_db(length_s)
        if self.gain_db == former_db:
            return sound if former_db == 0.0 else sound * np.float32(_factor(former_db))
        ramp = np.linspace(_factor(former_db), _factor(self.gain_db), len(sound), dtype=np.float32)
        return sound * ramp

    def _listen(self, power: float, length_s: float) -> None:
        level_db = 10 * math.log10(power + 1e-12)
        lowest_db, highest_db = FLOOR_LIMITS_DB
        floor_db = min(level_db, self._floor_db + FLOOR_RISE_DB_PER_S * length_s, highest_db)
        self._floor_db = max(floor_db, lowest_db)
        self.is_speech = level_db > max(QUIETEST_SPEECH_DB, self._floor_db + SPEECH_ABOVE_FLOOR_DB)
        if self.is_speech:
            self._heard_s = min(MEMORY_S, self._heard_s + length_s)
            self._power += (power - self._power) * min(1.0, length_s / self._heard_s)

    def _next_gain_db(self, length_s: float) -> float:
        wanted_db = TARGET_DB - 10 * math.log10(self._power)
        wanted_db = min(MOST_GAIN_DB, max(-MOST_GAIN_DB, wanted_db))
        step_db = GAIN_DB_PER_S * length_s
        return min(self.gain_db + step_db, max(self.gain_db - step_db, wanted_db))


def _factor(gain_db: float) -> float:
    return float(10 ** (gain_db / 20))
