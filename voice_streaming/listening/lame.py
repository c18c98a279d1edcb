"""LAME through PyAV: encodes PCM to whole MP3 frames.

Most microphones are mono, and LAME needs twice the time for two equal channels. So the stereo MP3 of such a sound is
encoded in mono, and each frame is rewritten as joint stereo with an empty side channel, which decodes to the same
samples in both channels. At the first stereo sound the encoder changes to LAME's own stereo, for good.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ..media.opus import CHANNELS, CLOCK_RATE_HZ, Samples

FRAME_SAMPLES = 1152
"""Samples of an MPEG-1 Layer III frame (ISO/IEC 11172-3), whatever its rate."""

LAME_EFFORT = "7"
"""LAME's algorithm quality. On speech at 128 kbit/s, 7 takes three quarters of the default's (5) time, and is no
further from the source; 9 gains nothing more."""

BITRATES_KBPS: tuple[int, ...] = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""By their index in a header (ISO/IEC 11172-3 section 2.4.2.3)."""

_HEADER_BYTES = 4
_MONO_SIDE_BYTES = 17
_STEREO_SIDE_BYTES = 32
_GRANULE_BITS = 59
_GRANULE_MASK = (1 << _GRANULE_BITS) - 1
"""Side information of one channel of one granule (section 2.4.1.7)."""

_OVERLAP_FRAMES = 3
"""Frames that an encoder encodes again when it replaces another: LAME's delay is a frame and 1,105 samples."""


class Mp3Encoder:
    """Encodes at a constant bit rate. Every frame can be decoded without the others: no bit reservoir, tag or Xing."""

    def __init__(self, bitrate_bps: int, sample_rate_hz: int, channels: int) -> None:
        self._bitrate_bps = bitrate_bps
        self._sample_rate_hz = sample_rate_hz
        narrow_bps = _mono_bitrate_bps(bitrate_bps, sample_rate_hz) if channels == 2 else None
        self._widener = Widener(bitrate_bps, sample_rate_hz) if narrow_bps else None
        self._lame = _Lame(narrow_bps or bitrate_bps, sample_rate_hz, 1 if narrow_bps else channels)
        self._recent: Samples = np.zeros((0, CHANNELS), np.int16)
        """The latest samples, as many as another encoder needs to continue."""

    def encode(self, samples: Samples) -> list[bytes]:
        """The frames that are complete now; LAME's delay is a frame and 1,105 samples."""
        if self._widener is None:
            return self._lame.encode(samples)
        if not np.array_equal(samples[:, 0], samples[:, 1]):
            self._change_to_stereo()
            return self._lame.encode(samples)
        frame_opus_samples = FRAME_SAMPLES * CLOCK_RATE_HZ // self._sample_rate_hz
        self._recent = np.concatenate([self._recent, samples])[-(_OVERLAP_FRAMES + 4) * frame_opus_samples :]
        return [self._widener.widened(frame) for frame in self._lame.encode(samples)]

    def _change_to_stereo(self) -> None:
        """Replaces the encoder by a stereo one, which continues at the same sample of the same frame."""
        mono = self._lame
        self._lame = _Lame(self._bitrate_bps, self._sample_rate_hz, CHANNELS)
        self._widener = None
        if len(self._recent):
            again = mono.pending_samples + _OVERLAP_FRAMES * FRAME_SAMPLES
            self._lame.encode(self._recent[-round(again * CLOCK_RATE_HZ / self._sample_rate_hz) :])


class Widener:
    """Rewrites mono frames as joint stereo frames of a higher, constant bit rate."""

    def __init__(self, bitrate_bps: int, sample_rate_hz: int) -> None:
        self._bitrate_index = BITRATES_KBPS.index(bitrate_bps // 1000)
        self._frame_bytes = Fraction(FRAME_SAMPLES * bitrate_bps, 8 * sample_rate_hz)
        self._owed = Fraction(0)
        """The fraction of a byte by which the frames so far are too short; a whole byte is added as padding."""

    def widened(self, frame: bytes) -> bytes:
        """The frame with an empty side channel. It must fit: see `_mono_bitrate_bps`."""
        self._owed += self._frame_bytes
        length = int(self._owed)
        self._owed -= length
        padding = length - int(self._frame_bytes)
        rate_and_padding = (self._bitrate_index << 4) | (frame[2] & 0x0C) | (padding << 1)
        # Joint stereo (01) with mid/side coding alone (10); the other bits stay.
        mode = 0x60 | (frame[3] & 0x0F)
        header = bytes([*frame[:2], rate_and_padding, mode])
        side = int.from_bytes(frame[_HEADER_BYTES : _HEADER_BYTES + _MONO_SIDE_BYTES])
        granules = ((side >> _GRANULE_BITS) & _GRANULE_MASK, side & _GRANULE_MASK)
        # 9 bits main_data_begin, which is 0 without a reservoir, and 3 private ones; 4 bits scfsi of each channel.
        wide = ((side >> (2 * _GRANULE_BITS)) & 0b1111) << 4
        for granule in granules:
            wide = (wide << _GRANULE_BITS) | _as_middle(granule)
            wide = (wide << _GRANULE_BITS) | _empty_side(granule)
        main_bytes = (sum(granule >> 47 for granule in granules) + 7) // 8
        main = frame[_HEADER_BYTES + _MONO_SIDE_BYTES :][:main_bytes]
        return (header + wide.to_bytes(_STEREO_SIDE_BYTES) + main).ljust(length, b"\0")


class _Lame:
    """Resampler and encoder for one number of channels."""

    def __init__(self, bitrate_bps: int, sample_rate_hz: int, channels: int) -> None:
        self._layout = "stereo" if channels == 2 else "mono"
        codec = av.CodecContext.create("libmp3lame", "w")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate = sample_rate_hz
        codec.layout = self._layout
        codec.format = "s16p"
        codec.bit_rate = bitrate_bps
        codec.options = {"reservoir": "0", "compression_level": LAME_EFFORT}
        self._codec = codec
        self._channels = channels
        # At 48,000 Hz it only cuts into frames and separates the channels.
        self._resampler = AudioResampler("s16p", self._layout, sample_rate_hz, frame_size=FRAME_SAMPLES)
        self._sample_rate_hz = sample_rate_hz
        self._given = 0
        self._frames_out = 0

    @property
    def pending_samples(self) -> float:
        """Samples, at the MP3's rate, that were encoded but are in no frame yet."""
        return self._given * self._sample_rate_hz / CLOCK_RATE_HZ - self._frames_out * FRAME_SAMPLES

    def encode(self, samples: Samples) -> list[bytes]:
        samples = samples[:, : self._channels]
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout=self._layout)
        frame.sample_rate = CLOCK_RATE_HZ
        frame.time_base = Fraction(1, CLOCK_RATE_HZ)
        frame.pts = self._given
        self._given += len(samples)
        frames = []
        for piece in self._resampler.resample(frame):
            piece.pts = None
            frames += [bytes(packet) for packet in self._codec.encode(piece)]
        self._frames_out += len(frames)
        return frames


def _mono_bitrate_bps(bitrate_bps: int, sample_rate_hz: int) -> int | None:
    """The highest bit rate whose mono frames fit into the stereo ones with their larger side information, or None."""
    most_bytes = FRAME_SAMPLES * bitrate_bps // 8 // sample_rate_hz - _STEREO_SIDE_BYTES
    for kbps in reversed(BITRATES_KBPS[1:]):
        bitrate = kbps * 1000
        if FRAME_SAMPLES * bitrate // 8 // sample_rate_hz + 1 - _MONO_SIDE_BYTES <= most_bytes:
            return bitrate
    return None


def _as_middle(granule: int) -> int:
    """A channel's side information as that of the middle channel: two steps louder, as decoders divide by root 2."""
    # part2_3_length 12 bits, big_values 9, global_gain 8, scalefac_compress 4, window_switching_flag 1, block_type 2,
    # mixed_block_flag 1, ...: a granule without any bits of spectrum has no gain that matters.
    return granule + (2 << 30) if granule >> 47 else granule


def _empty_side(granule: int) -> int:
    """No spectrum, in the same kind of block: decoders add it to the other channel's before they transform it."""
    is_switched = (granule >> 25) & 1
    return granule & (0b1111 << 22) if is_switched else 0
