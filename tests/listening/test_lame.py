"""The encoder's frames: whole, of constant bit rate, and for mono the same in stereo."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from tests.support.audio import Samples
from tests.support.radio import mp3_frames
from voice_streaming.listening.lame import FRAME_SAMPLES, Mp3Encoder, Widener, _Lame, _mono_bitrate_bps

SAMPLE_RATES_HZ = (32_000, 44_100, 48_000)


@pytest.fixture(scope="module")
def spoken(speech: Samples) -> NDArray[np.int16]:
    """Two channels alike."""
    return np.repeat((speech * 30_000).astype(np.int16)[:, np.newaxis], 2, axis=1)


def encoded(encoder: Mp3Encoder, samples: NDArray[np.int16]) -> list[bytes]:
    return [frame for at in range(0, len(samples), 960) for frame in encoder.encode(samples[at : at + 960])]


def decoded(frames: list[bytes]) -> NDArray[np.float32]:
    """Shape (channels, samples)."""
    decoder = av.CodecContext.create("mp3float", "r")
    assert isinstance(decoder, AudioCodecContext)
    return np.concatenate([part.to_ndarray() for frame in frames for part in decoder.decode(av.Packet(frame))], axis=1)


def snr_db(reference: NDArray[np.float32], heard: NDArray[np.float32]) -> float:
    length = min(reference.size, heard.size)
    noise = heard[:length] - reference[:length]
    return 10 * float(np.log10(np.mean(reference[:length] ** 2) / max(float(np.mean(noise**2)), 1e-12)))


@pytest.mark.parametrize("sample_rate_hz", SAMPLE_RATES_HZ)
@pytest.mark.parametrize("bitrate_bps", [32_000, 48_000, 64_000, 96_000, 128_000, 160_000, 192_000, 256_000, 320_000])
def test_frames_are_whole_constant_and_stand_alone(
    spoken: NDArray[np.int16], bitrate_bps: int, sample_rate_hz: int
) -> None:
    frames = encoded(Mp3Encoder(bitrate_bps, sample_rate_hz, 2), spoken[:96_000])
    assert mp3_frames(b"".join(frames)) == frames
    assert abs(sum(map(len, frames)) - len(frames) * Fraction(144 * bitrate_bps, sample_rate_hz)) <= 1
    for frame in frames:
        assert frame[3] & 0xF0 in (0x60, 0x40, 0x00), "not two channels"
        assert int.from_bytes(frame[4:6]) >> 7 == 0, "main_data_begin: the frame needs one before it"
        assert b"Xing" not in frame
        assert b"Info" not in frame
    assert decoded(frames).shape == (2, len(frames) * 1152)


def test_mono_sound_is_the_same_on_both_sides_and_as_good_as_lames_stereo(spoken: NDArray[np.int16]) -> None:
    heard = decoded(encoded(Mp3Encoder(128_000, 48_000, 2), spoken))
    assert np.array_equal(heard[0], heard[1])
    assert snr_db((spoken[:, 0] / 32768).astype(np.float32), heard[0][1105:]) > 25


def test_one_channel(spoken: NDArray[np.int16]) -> None:
    frames = encoded(Mp3Encoder(64_000, 48_000, 1), spoken[:96_000])
    assert all(frame[3] & 0xC0 == 0xC0 for frame in frames)
    assert decoded(frames).shape[0] == 1


@pytest.mark.parametrize("sample_rate_hz", [44_100, 48_000])
def test_the_first_stereo_sound_changes_over_without_a_step_or_a_missing_sample(
    spoken: NDArray[np.int16], sample_rate_hz: int
) -> None:
    turns_stereo = spoken.copy()
    turns_stereo[150_000:, 1] //= 2
    always = turns_stereo.copy()
    always[0, 1] ^= 1  # LAME's own stereo from the first sample on
    changed = decoded(encoded(Mp3Encoder(320_000, sample_rate_hz, 2), turns_stereo))
    expected = decoded(encoded(Mp3Encoder(320_000, sample_rate_hz, 2), always))
    # A frame's place within the other's may differ by what a sample at 44,100 Hz is rounded to.
    assert abs(changed.shape[1] - expected.shape[1]) <= 1152
    length = min(changed.shape[1], expected.shape[1])
    for side in (0, 1):
        assert snr_db(expected[side, :length], changed[side, :length]) > 15
        after = slice(160_000 * sample_rate_hz // 48_000, length)
        assert snr_db(expected[side, after], changed[side, after]) > 15
        assert np.abs(np.diff(changed[side])).max() <= 1.1 * np.abs(np.diff(expected[side])).max()


def test_stereo_from_the_first_sample_on_is_lames_own(spoken: NDArray[np.int16]) -> None:
    stereo = spoken[48_000:58_000].copy()
    stereo[:, 1] //= 2
    lame = _Lame(128_000, 48_000, 2)
    expected = [frame for at in range(0, len(stereo), 960) for frame in lame.encode(stereo[at : at + 960])]
    assert encoded(Mp3Encoder(128_000, 48_000, 2), stereo) == expected


def test_a_silent_start_needs_no_sound(spoken: NDArray[np.int16]) -> None:
    frames = encoded(Mp3Encoder(128_000, 44_100, 2), np.zeros((48_000, 2), np.int16))
    assert not decoded(frames).any()
    assert spoken.any()


# Mono in stereo, bit by bit (ISO/IEC 11172-3 section 2.4.1.7)


def granule(length: int, gain: int, *, switched: bool, rest: int) -> int:
    """A channel's side information: part2_3_length, big_values, global_gain, scalefac_compress, the block, the rest."""
    bits = length
    for value, width in ((0x155, 9), (gain, 8), (0b1010, 4), (switched, 1), (rest, 25)):
        bits = bits << width | value
    return bits


def mono_frame(first: int, second: int) -> bytes:
    """With scalefactors shared between the granules, private bits set, and main data that can be told apart."""
    side = ((0b11111 << 4 | 0b1001) << 59 | first) << 59 | second
    return b"\xff\xfb\x50\xc4" + side.to_bytes(17) + bytes(range(1, 100))


def test_a_mono_frame_becomes_the_middle_channel_of_a_stereo_frame() -> None:
    first = granule(100, 150, switched=True, rest=0b101 << 22 | 0x3FFFFF)
    second = granule(29, 151, switched=False, rest=0x1FFFFFF)
    wide = Widener(128_000, 44_100).widened(mono_frame(first, second))
    side = int.from_bytes(wide[4:36])
    louder = 2 << 30
    switch = (1 << 25) | (0b101 << 22)
    # 9 bits main_data_begin, 3 private, 4 scfsi of each channel; then two channels of each granule.
    fields = [side >> 59 * index & (1 << 59) - 1 for index in (3, 2, 1, 0)]
    assert fields == [first + louder, switch, second + louder, 0]
    assert side >> 59 * 4 == 0b1001_0000
    assert wide[36:].rstrip(b"\0") == bytes(range(1, 18)), "129 bits of main data, and no more"
    assert (len(wide), wide[3] & 0xF0) == (417, 0x60), "joint stereo, middle and side"


def test_a_granule_without_a_spectrum_is_left_as_it_is() -> None:
    silent = granule(0, 150, switched=False, rest=0x1FFFFFF)
    wide = Widener(128_000, 44_100).widened(mono_frame(silent, silent))
    side = int.from_bytes(wide[4:36])
    assert [side >> 59 * index & (1 << 59) - 1 for index in (3, 2, 1, 0)] == [silent, 0, silent, 0]
    assert set(wide[36:]) == {0}


@pytest.mark.parametrize("sample_rate_hz", SAMPLE_RATES_HZ)
@pytest.mark.parametrize("bitrate_bps", [64_000, 96_000, 128_000, 160_000, 192_000, 256_000, 320_000])
def test_mono_is_encoded_at_the_highest_rate_that_leaves_room(sample_rate_hz: int, bitrate_bps: int) -> None:
    """A mono frame with padding, 15 bytes longer by the side information, still fits; at the next rate it would not."""

    def frame_bytes(bps: int) -> int:
        return FRAME_SAMPLES * bps // 8 // sample_rate_hz

    narrow_bps = _mono_bitrate_bps(bitrate_bps, sample_rate_hz)
    assert narrow_bps is not None
    assert frame_bytes(narrow_bps) + 1 + 15 <= frame_bytes(bitrate_bps)
    steps = [kbps * 1000 for kbps in (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)]
    higher = steps[steps.index(narrow_bps) + 1]
    assert frame_bytes(higher) + 1 + 15 > frame_bytes(bitrate_bps)
