"""The judge judged: what must pass passes clearly, what must fail fails clearly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.support.audio import (
    SAMPLE_RATE_HZ,
    Samples,
    decode_audio,
    decode_opus,
    encode_mp3,
    encode_opus,
    level_dbfs,
)
from tests.support.matching import SAME_SPEECH, assert_same_speech, match
from tests.support.speech import OTHER_TEXT, synthesise

# How far from the threshold is "clearly".
MARGIN = 0.2


def looped_from_the_middle(speech: Samples) -> Samples:
    middle = speech.size // 3
    looped: Samples = np.concatenate([speech[middle:], speech, speech[:middle]])
    return looped


def with_a_clock_200_ppm_fast(speech: Samples) -> Samples:
    played: Samples = np.interp(np.arange(0, speech.size, 1.0002), np.arange(speech.size), speech).astype(np.float32)
    return played


def with_changing_gain(speech: Samples) -> Samples:
    return (speech * np.geomspace(0.05, 1, speech.size)).astype(np.float32)


def between_silences(speech: Samples) -> Samples:
    silence = np.zeros(2 * SAMPLE_RATE_HZ, dtype=np.float32)
    padded: Samples = np.concatenate([silence, speech, silence])
    return padded


def in_noise_20_db_below(speech: Samples) -> Samples:
    return speech + noise(speech, level_dbfs(speech) - 20)


def noise(speech: Samples, level: float = -20) -> Samples:
    samples: Samples = np.random.default_rng(7).standard_normal(speech.size, dtype=np.float32)
    return samples * np.float32(10 ** (level / 20))


def brown_noise(speech: Samples) -> Samples:
    walk = np.cumsum(noise(speech, -40))
    centred: Samples = walk - walk.mean()
    return centred


def sine(speech: Samples) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 240 * np.arange(speech.size) / SAMPLE_RATE_HZ)).astype(np.float32)


SAME: dict[str, Callable[[Samples], Samples]] = {
    "unchanged": lambda speech: speech,
    "quiet": lambda speech: speech * 0.001,
    "Opus 32k": lambda speech: decode_opus(encode_opus(speech)),
    "Opus 12k": lambda speech: decode_opus(encode_opus(speech, bitrate_bps=12_000)),
    "MP3 128k": lambda speech: decode_audio(encode_mp3(speech)),
    "Opus, then MP3": lambda speech: decode_audio(encode_mp3(decode_opus(encode_opus(speech)))),
    "a looping source": looped_from_the_middle,
    "a fast clock": with_a_clock_200_ppm_fast,
    "automatic gain": with_changing_gain,
    "silence before and after": between_silences,
    "some noise": in_noise_20_db_below,
}

OTHER: dict[str, Callable[[Samples], Samples]] = {
    "silence": lambda speech: np.zeros_like(speech),
    "faint noise": lambda speech: noise(speech, -90),
    "white noise": noise,
    "brown noise": brown_noise,
    "a sine": sine,
    "another text": lambda speech: synthesise(OTHER_TEXT),
    "another voice": lambda speech: synthesise(OTHER_TEXT, voice="en+f3"),
    "backwards": lambda speech: speech[::-1].copy(),
    "nothing": lambda speech: speech[:0],
    "a tenth of a second": lambda speech: speech[:4800],
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_the_same_speech_passes_clearly(change: Callable[[Samples], Samples], speech: Samples) -> None:
    assert assert_same_speech(speech, change(speech)).score > SAME_SPEECH + MARGIN


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_anything_else_fails_clearly(change: Callable[[Samples], Samples], speech: Samples) -> None:
    other = change(speech)
    assert match(speech, other).score < SAME_SPEECH - MARGIN
    with pytest.raises(AssertionError, match=r"too little sound|not the same speech"):
        assert_same_speech(speech, other)


def test_windows_tell_where_in_the_reference_they_are(speech: Samples) -> None:
    found = match(speech, np.roll(speech, -2 * SAMPLE_RATE_HZ)[: 5 * SAMPLE_RATE_HZ])
    assert [window.reference_s - window.start_s for window in found.windows] == pytest.approx([2.0] * 9, abs=0.01)


def test_missing_and_foreign_pieces_lower_the_score_by_their_share(speech: Samples) -> None:
    whole = match(speech, speech).score
    holed = speech.copy()
    holed[2 * SAMPLE_RATE_HZ : 6 * SAMPLE_RATE_HZ] = 0
    share = 4 * SAMPLE_RATE_HZ / speech.size
    assert match(speech, holed).score == pytest.approx(whole * (1 - share), abs=0.1)
    foreign = np.concatenate([speech[: speech.size // 3], noise(speech)])
    assert match(speech, foreign).score < SAME_SPEECH


def test_too_short_a_piece_is_said_to_be_too_short(speech: Samples) -> None:
    piece = speech[: 2 * SAMPLE_RATE_HZ]
    assert_same_speech(speech, piece, at_least_s=1.5)
    with pytest.raises(AssertionError, match="too little sound"):
        assert_same_speech(speech, piece)
