"""Several voices as one sound: each on a line in real time, sums of them, and a limiter. No I/O, no clock.

Positions and lengths are counts of samples at CLOCK_RATE_HZ, on one line for all voices. A mix is made in frames of
FRAME_SAMPLES; the frame that begins at a position is made when real time is there, and by then holds all that was to
come in it. So a packet has to arrive a frame earlier than it is heard.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from .loudness import Loudness
from .opus import CLOCK_RATE_HZ, FRAME_SAMPLES, Samples, Sound
from .pcm import PcmBlock
from .playout import Arrivals, Playout, PlayoutCounters

SPARE_SAMPLES = CLOCK_RATE_HZ // 100
"""10 ms on top of the jitter that was measured: so much a playout is off for a clock that is wrong by 300 ppm."""

JITTER_LIMITS = (CLOCK_RATE_HZ * 15 // 1000, CLOCK_RATE_HZ // 10)
"""15 to 100 ms for jitter, SPARE_SAMPLES included. Who is later than that is concealed: the others have to wait too."""

FIRST_JITTER_SAMPLES = CLOCK_RATE_HZ // 50
"""20 ms, as long as nothing has been measured."""

MOST_GROWTH_SAMPLES = CLOCK_RATE_HZ * 60 // 1000
"""A voice that fell silent since its packets were late by up to so much waits longer from then on."""

FADE_SAMPLES = CLOCK_RATE_HZ // 100
"""10 ms, from the sum of some voices to that of others: steps as speech has them, and no word lost."""

THRESHOLD = 0.89
"""1 dB below full scale, where the limiter begins: an Opus decoder may come out a little higher than what went in."""

CHUNK_SAMPLES = CLOCK_RATE_HZ // 400
"""2.5 ms: what the limiter looks ahead, and so what it delays. Its gain falls over that time."""

RELEASE_PER_CHUNK = 0.025
"""Of what is missing to a gain of 1: a time constant of 100 ms."""

ENOUGH_GAIN = 0.9995
"""A gain that has come so far back is 1 again: below the threshold no sample is changed."""

_CHUNKS = FRAME_SAMPLES // CHUNK_SAMPLES
_CHUNK_RAMP: Sound = (np.arange(1, CHUNK_SAMPLES + 1) / CHUNK_SAMPLES).astype(np.float32)
_FADE_IN: Sound = (np.arange(1, FADE_SAMPLES + 1) / FADE_SAMPLES).astype(np.float32)
SILENCE: Sound = np.zeros(FRAME_SAMPLES, np.float32)
SILENCE.setflags(write=False)

Voice = TypeVar("Voice", bound=Hashable)


class VoiceLine:
    """One voice on the line, from what its decoder gave to frames for all mixes; it has its own, adaptive delay.

    Holds the sound between what was read and the newest packet: a second and a packet's length at most.
    """

    def __init__(self, start: int, loudness: Loudness, counters: PlayoutCounters) -> None:
        self._playout = Playout(
            FRAME_SAMPLES + FIRST_JITTER_SAMPLES, counters, start=start, most_growth=MOST_GROWTH_SAMPLES
        )
        self._loudness = loudness
        self._pieces: deque[tuple[int, Sound]] = deque()
        """Sound that was not read yet, and the position of each piece; in order, with silence between them."""
        self._speech_end = start
        """Position of the end of the newest speech."""

    @property
    def position(self) -> int:
        """All before it is known."""
        return self._playout.position

    @property
    def arrivals(self) -> Arrivals:
        """Its `note` is to be called for every packet, also for those that are too late to be decoded."""
        return self._playout.arrivals

    @property
    def delay(self) -> int:
        """From a usual packet's arrival to the moment when the frame that its first sample is in begins."""
        return self._playout.margin

    def place(self, block: PcmBlock, due: float) -> None:
        """Takes the next block; `due` is the position that was played when its packet arrived."""
        jitter = min(JITTER_LIMITS[1], max(JITTER_LIMITS[0], round(self.arrivals.spread) + SPARE_SAMPLES))
        if self.arrivals.usual is not None:
            self._playout.margin = FRAME_SAMPLES + jitter
        samples = self._playout.place(block, due).samples
        if not len(samples):
            return
        self._pieces.append((self.position - len(samples), self._loudness.evened(mono(samples))))
        if self._loudness.is_speech:
            self._speech_end = self.position

    def be_silent(self, length: int) -> None:
        """Nothing came in time."""
        self._playout.be_silent(length)

    def read(self, begin: int) -> Sound | None:
        """The frame that begins there, or None for silence; what is before its end is forgotten. Not to be written."""
        end = begin + FRAME_SAMPLES
        if self._pieces and self._pieces[0][0] == begin and len(self._pieces[0][1]) == FRAME_SAMPLES:
            return self._pieces.popleft()[1]
        frame: Sound | None = None
        while self._pieces and self._pieces[0][0] < end:
            at, piece = self._pieces[0]
            piece_end = at + len(piece)
            first, last = max(at, begin), min(piece_end, end)
            if first < last:
                frame = np.zeros(FRAME_SAMPLES, np.float32) if frame is None else frame
                frame[first - begin : last - begin] = piece[first - at : last - at]
            if piece_end > end:
                break
            self._pieces.popleft()
        return frame

    def is_quiet_from(self, position: int) -> bool:
        """Whether all that is known from there on is a pause of the voice."""
        return self._speech_end <= position


def mono(samples: Samples) -> Sound:
    """One channel of two."""
    mixed: Sound = (samples[:, 0].astype(np.float32) + samples[:, 1]) * np.float32(0.5 / 32_768)
    return mixed


class SumStep(NamedTuple, Generic[Voice]):
    """How to get the sum of some voices from a sum that is there."""

    voices: frozenset[Voice]
    base: frozenset[Voice]
    """Empty, or that of a step before it."""
    added: tuple[Voice, ...]
    removed: tuple[Voice, ...]


def plan_sums(wanted: Iterable[frozenset[Voice]]) -> list[SumStep[Voice]]:
    """One step for each set of voices, with few additions and subtractions in all."""
    done: list[frozenset[Voice]] = [frozenset()]
    steps = []
    for voices in sorted(wanted, key=len, reverse=True):
        base = min(done, key=lambda other: len(voices ^ other))
        steps.append(SumStep(voices, base, tuple(voices - base), tuple(base - voices)))
        done.append(voices)
    return steps


Sums = dict[frozenset[Voice], Sound | None]


def take_step(step: SumStep[Voice], sums: Sums[Voice], frames: Mapping[Voice, Sound | None]) -> Sound | None:
    """The sum of the step's voices, which is also added to `sums`; None is silence.

    Subtracting in 32 bits is off by 1e-7 of the loudest, 40 dB below what 16 bits hold.
    """
    added = [frame for voice in step.added if (frame := frames.get(voice)) is not None]
    removed = [frame for voice in step.removed if (frame := frames.get(voice)) is not None]
    total = sums.get(step.base)
    if total is not None and removed and not any(frames.get(voice) is not None for voice in step.voices & step.base):
        # Nobody is left of it: silence is to be silent.
        total, removed = None, []
    total = _plus(total, added)
    for frame in removed:
        assert total is not None
        total = total - frame
    sums[step.voices] = total
    return total


def sum_of(voices: Iterable[Voice], frames: Mapping[Voice, Sound | None]) -> Sound | None:
    """Their sum, made anew; None is silence."""
    return _plus(None, [frame for voice in voices if (frame := frames.get(voice)) is not None])


def _plus(total: Sound | None, added: Sequence[Sound]) -> Sound | None:
    for frame in added:
        total = frame if total is None else total + frame
    return total


def cross_faded(former: Sound | None, sound: Sound | None) -> Sound | None:
    """A frame that begins as the one and is the other after FADE_SAMPLES."""
    if former is None and sound is None:
        return None
    result = SILENCE.copy() if sound is None else sound.copy()
    before = SILENCE if former is None else former
    result[:FADE_SAMPLES] = before[:FADE_SAMPLES] + _FADE_IN * (result[:FADE_SAMPLES] - before[:FADE_SAMPLES])
    return result


class Limiter:
    """Keeps a sound within THRESHOLD, CHUNK_SAMPLES late; below the threshold it changes nothing."""

    def __init__(self) -> None:
        self._delayed = SILENCE[:CHUNK_SAMPLES]
        self._gain = 1.0
        """At the beginning of `_delayed`; low enough for it."""

    def limited(self, frame: Sound) -> Sound:
        """The frame that follows those before it: its own end comes with the next one."""
        line = np.concatenate([self._delayed, frame])
        self._delayed = line[FRAME_SAMPLES:]
        peaks = np.abs(line).reshape(-1, CHUNK_SAMPLES).max(axis=1)
        if self._gain == 1.0 and peaks.max() <= THRESHOLD:
            return line[:FRAME_SAMPLES]
        gains = self._gains(np.minimum(1.0, THRESHOLD / np.maximum(peaks, THRESHOLD)).tolist())
        self._gain = gains[-1]
        begins = np.array(gains[:-1], np.float32)[:, np.newaxis]
        steps = np.diff(np.array(gains, np.float32))[:, np.newaxis]
        limited: Sound = (line[:FRAME_SAMPLES].reshape(_CHUNKS, -1) * (begins + steps * _CHUNK_RAMP)).reshape(-1)
        return limited

    def _gains(self, limits: list[float]) -> list[float]:
        """At the beginning of each chunk of the frame, and at its end; in between they change evenly.

        Each is low enough for the chunk before and for the one after it, and so is all in between.
        """
        gains = [self._gain]
        for before, after in itertools.pairwise(limits):
            released = gains[-1] + (1 - gains[-1]) * RELEASE_PER_CHUNK
            gains.append(min(before, after, 1.0 if released > ENOUGH_GAIN else released))
        return gains
