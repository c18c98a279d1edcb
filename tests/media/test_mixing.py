"""Sums and the limiter."""

from __future__ import annotations

import numpy as np
import pytest

from voice_streaming.media.loudness import MOST_GAIN_DB, Loudness
from voice_streaming.media.mixing import (
    FADE_SAMPLES,
    SILENCE,
    THRESHOLD,
    Limiter,
    cross_faded,
    plan_sums,
    sum_of,
    take_step,
)
from voice_streaming.media.opus import FRAME_SAMPLES, Sound


def sine(frequency_hz: int, amplitude: float, frames: int) -> Sound:
    times = np.arange(frames * FRAME_SAMPLES) / 48_000
    return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def limited(sound: Sound) -> Sound:
    limiter = Limiter()
    return np.concatenate([limiter.limited(frame) for frame in sound.reshape(-1, FRAME_SAMPLES)])


def test_a_limiter_changes_nothing_below_its_threshold_but_the_time() -> None:
    sound = sine(440, 0.8, 20)
    late = limited(sound)
    assert np.array_equal(late[120:], sound[:-120])
    assert not late[:120].any()


@pytest.mark.parametrize("amplitude", [1.0, 3.0, 30.0])
def test_what_is_too_loud_stays_within_the_threshold_without_a_step(amplitude: float) -> None:
    sound = np.concatenate([sine(440, 0.3, 10), sine(440, amplitude, 10), sine(440, 0.3, 60)])
    result = limited(sound)
    assert np.abs(result).max() <= THRESHOLD + 1e-6
    quiet = result[-FRAME_SAMPLES:]
    assert np.abs(quiet).max() == pytest.approx(0.3, rel=0.01)


def test_sums_that_differ_by_one_voice_are_made_by_one_step_and_are_right() -> None:
    voices = frozenset("abcdef")
    wanted = [voices, *(voices - {voice} for voice in voices)]
    plan = plan_sums(wanted)
    assert sum(len(step.added) + len(step.removed) for step in plan) == 6 + 6
    chance = np.random.default_rng(1)
    frames = {voice: chance.normal(size=FRAME_SAMPLES).astype(np.float32) for voice in voices}
    sums: dict[frozenset[str], Sound | None] = {frozenset(): None}
    for step in plan:
        total = take_step(step, sums, frames)
        right = sum_of(step.voices, frames)
        assert total is not None
        assert right is not None
        assert np.abs(total - right).max() < 1e-5


def test_silence_is_silent_where_nobody_of_a_sum_is_left() -> None:
    frames: dict[str, Sound | None] = {"a": sine(440, 0.5, 1), "b": None}
    sums: dict[frozenset[str], Sound | None] = {frozenset(): None}
    plan = plan_sums([frozenset("ab"), frozenset("b")])
    totals = [take_step(step, sums, frames) for step in plan]
    assert totals[0] is not None
    assert totals[1] is None


def test_a_fade_begins_as_the_one_and_ends_as_the_other() -> None:
    one, other = sine(440, 0.5, 1), sine(660, 0.5, 1)
    faded = cross_faded(one, other)
    assert faded is not None
    assert faded[0] == pytest.approx(one[0], abs=0.01)
    assert np.array_equal(faded[FADE_SAMPLES:], other[FADE_SAMPLES:])
    assert cross_faded(None, None) is None
    out = cross_faded(one, None)
    assert out is not None
    assert not out[FADE_SAMPLES:].any()
    assert not SILENCE.any()


@pytest.mark.parametrize(("amplitude", "gain_db"), [(0.5, -MOST_GAIN_DB), (0.1, 0), (0.05, 6), (0.01, MOST_GAIN_DB)])
def test_loudness_is_evened_slowly_and_within_bounds(amplitude: float, gain_db: float) -> None:
    loudness = Loudness()
    gains = []
    for number, frame in enumerate(sine(440, amplitude, 1000).reshape(-1, FRAME_SAMPLES)):
        # As speech, with pauses between words: what never pauses is noise.
        loudness.evened(frame if number % 30 < 20 else frame * np.float32(0.01))
        gains.append(loudness.gain_db)
    assert gains[-1] == pytest.approx(gain_db, abs=1)
    assert np.abs(np.diff(gains)).max() <= 4.0 * 0.02 + 1e-9


def test_a_pause_does_not_bring_up_the_noise() -> None:
    loudness = Loudness()
    noise = np.random.default_rng(2).normal(scale=0.001, size=(500, FRAME_SAMPLES)).astype(np.float32)
    for frame in noise:
        loudness.evened(frame)
    assert loudness.gain_db == 0.0
    assert not loudness.is_speech
