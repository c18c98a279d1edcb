"""Level, peak and spectrum: calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tones import SECOND, tone
from voice_streaming.media.levels import (
    BANDS,
    FLOOR_DB,
    INTERVAL_SAMPLES,
    SILENCE,
    Analyser,
    Analysis,
    Samples,
    band_edges_hz,
)


def analysed(samples: Samples) -> Analysis:
    analysis = Analyser(samples.shape[1]).feed(samples)
    assert analysis is not None
    return analysis


def band_of(frequency_hz: float) -> int:
    return int(np.searchsorted(band_edges_hz(), frequency_hz)) - 1


# -- calibration


@pytest.mark.parametrize("peak_db", [0.0, -6.0, -20.0, -40.0])
def test_tone_of_1_khz_reads_its_level_in_the_right_band(peak_db: float) -> None:
    analysis = analysed(tone(1000, peak_db))
    band = band_of(1000)

    assert analysis.peak == pytest.approx(peak_db, abs=0.05)
    assert analysis.level == pytest.approx(peak_db - 3.01, abs=0.06)
    assert analysis.spectrum[band] == pytest.approx(peak_db - 3.01, abs=0.1)
    assert max(analysis.spectrum[:band] + analysis.spectrum[band + 1 :]) < peak_db - 50


@pytest.mark.parametrize("band", range(BANDS))
def test_every_band_reads_the_level_of_a_tone_in_its_middle(band: int) -> None:
    edges = band_edges_hz()

    spectrum = analysed(tone(float(np.sqrt(edges[band] * edges[band + 1])), -12)).spectrum

    assert spectrum[band] == pytest.approx(-15.01, abs=0.6 if band < 2 else 0.1)
    assert spectrum[band] - max(spectrum[:band] + spectrum[band + 1 :]) > 13


def test_tone_between_two_bands_is_half_in_each() -> None:
    edge = 15

    spectrum = analysed(tone(float(band_edges_hz()[edge]))).spectrum

    assert spectrum[edge - 1] == pytest.approx(-6.02, abs=0.3)
    assert spectrum[edge] == pytest.approx(-6.02, abs=0.3)


def test_powers_of_the_bands_add_up_to_the_level() -> None:
    tones = sum(tone(frequency, -15).astype(np.int64) for frequency in (210, 700, 1900, 6100))

    analysis = analysed(np.asarray(tones, np.int16))

    assert 10 * np.log10(sum(10 ** (band / 10) for band in analysis.spectrum)) == pytest.approx(analysis.level, abs=0.1)


def test_bands_are_equal_steps_from_80_hz_to_16_khz() -> None:
    edges = band_edges_hz()

    assert (edges[0], edges[-1], len(edges)) == (pytest.approx(80), pytest.approx(16_000), BANDS + 1)
    assert np.ptp(np.diff(np.log(edges))) < 1e-9


def test_sound_outside_of_the_bands_counts_for_the_level_only() -> None:
    analysis = analysed(tone(20_000))

    assert analysis.level == pytest.approx(-3.0, abs=0.06)
    assert max(analysis.spectrum) < -60


def test_square_wave_at_full_scale_reads_0_for_level_and_peak() -> None:
    square = np.tile(np.repeat(np.array([[32_767], [-32_768]], np.int16), 24, axis=0), (1000, 2))

    assert analysed(square)[:2] == (0.0, 0.0)


def test_lowest_sample_is_a_peak_too() -> None:
    samples = np.zeros((INTERVAL_SAMPLES, 1), np.int16)
    samples[7] = -32_768

    assert analysed(samples).peak == 0.0


def test_silence_is_the_floor() -> None:
    assert analysed(np.zeros((SECOND, 2), np.int16)) == SILENCE
    assert SILENCE == (FLOOR_DB, FLOOR_DB, [FLOOR_DB] * BANDS)


def test_voice_in_one_of_two_channels_has_half_the_power_and_the_full_peak() -> None:
    left = tone(1000)
    left[:, 1] = 0

    analysis = analysed(left)

    assert analysis.level == pytest.approx(-6.02, abs=0.06)
    assert analysis.spectrum[band_of(1000)] == pytest.approx(-6.02, abs=0.1)
    assert analysis.peak == 0.0


def test_channels_in_opposite_phase_do_not_cancel() -> None:
    samples = tone(1000, -6)
    samples[:, 1] *= -1

    assert analysed(samples) == analysed(tone(1000, -6))


def test_level_follows_the_last_tenth_of_a_second() -> None:
    analyser = Analyser()
    analyser.feed(tone(1000))

    analysis = analyser.feed(np.zeros((INTERVAL_SAMPLES, 2), np.int16))

    assert analysis is not None
    assert (analysis.level, analysis.peak) == (FLOOR_DB, FLOOR_DB)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6000), max_size=30))
def test_pieces_make_no_difference(lengths: list[int]) -> None:
    noise = np.random.default_rng(7).integers(-9000, 9000, (sum(lengths), 2)).astype(np.int16)
    whole, pieces = Analyser(), Analyser()

    expected = [
        whole.feed(noise[at : at + INTERVAL_SAMPLES])
        for at in range(0, len(noise) - INTERVAL_SAMPLES + 1, INTERVAL_SAMPLES)
    ]
    given_back = [pieces.feed(piece) for piece in np.split(noise, np.cumsum(lengths)[:-1])] if lengths else []

    # A piece that completes two analyses gives the newer one.
    completed = [
        int(end) // INTERVAL_SAMPLES - 1
        for begin, end in zip(np.cumsum([0, *lengths]), np.cumsum(lengths), strict=False)
        if int(end) // INTERVAL_SAMPLES > int(begin) // INTERVAL_SAMPLES
    ]
    assert [analysis for analysis in given_back if analysis] == [expected[index] for index in completed]


def test_cleared_analyser_starts_anew() -> None:
    analyser = Analyser()
    analyser.feed(tone(1000, samples=INTERVAL_SAMPLES + 100))

    analyser.clear()

    assert analyser.feed(np.zeros((INTERVAL_SAMPLES - 1, 2), np.int16)) is None
    assert analyser.feed(np.zeros((1, 2), np.int16)) == SILENCE


def test_a_spectrum_has_32_values() -> None:
    """Clients draw as many."""
    assert len(analysed(tone(1000)).spectrum) == len(SILENCE.spectrum) == 32
