"""What is made of a finished recording: its MP3, and its waveform. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from msgspec import Struct

from ..listening.lame import Mp3Encoder
from ..media.opus import CHANNELS, CLOCK_RATE_HZ, Samples
from .folder import PEAKS_ENDING
from .ogg_file import NotARecording

MOST_PEAKS = 400
"""As many lines as a narrow page has room for."""
_PEAKS_RATE_HZ = 8000
"""Enough for a picture, and quickly looked through."""
_MP3_STEP_SAMPLES = 5 * CLOCK_RATE_HZ
"""How much sound is converted at a time."""


class Peaks(Struct, frozen=True):
    """A recording's waveform."""

    seconds: float
    peaks: list[int]
    """The loudest sample of each of at most MOST_PEAKS equal parts, 0 to 100, where 100 is full scale."""


def mp3(path: Path, bitrate_bps: int, sample_rate_hz: int) -> Iterator[bytes]:
    """The sound as MP3, some seconds at a time. Raises OSError, NotARecording."""
    encoder = Mp3Encoder(bitrate_bps, sample_rate_hz, CHANNELS)
    for samples in _decoded(path, CLOCK_RATE_HZ, "stereo", _MP3_STEP_SAMPLES):
        frames = encoder.encode(samples.reshape(-1, CHANNELS))
        yield b"".join(frames)
    # LAME's delay, so that nothing of the end is missing.
    yield b"".join(encoder.encode(np.zeros((CLOCK_RATE_HZ // 10, CHANNELS), np.int16)))


def peaks(path: Path) -> Peaks:
    """The waveform, which is kept beside the file once it is known. Raises OSError, NotARecording."""
    kept = path.with_name(path.name + PEAKS_ENDING)
    try:
        return msgspec.json.decode(kept.read_bytes(), type=Peaks)
    except (OSError, msgspec.MsgspecError):
        found = _peaks(path)
    try:
        kept.write_bytes(msgspec.json.encode(found))
    except OSError:
        return found  # It is made again the next time.
    return found


def _peaks(path: Path) -> Peaks:
    blocks = [np.abs(block.astype(np.int32)) for block in _decoded(path, _PEAKS_RATE_HZ, "mono", _PEAKS_RATE_HZ)]
    sound = np.concatenate(blocks) if blocks else np.zeros(0, np.int32)
    count = min(MOST_PEAKS, len(sound))
    bounds = np.linspace(0, len(sound), count + 1).astype(int)[:-1]
    highest = np.maximum.reduceat(sound, bounds) if count else sound
    return Peaks(round(len(sound) / _PEAKS_RATE_HZ, 3), [int(value) * 100 // 32768 for value in highest])


def _samples(frame: AudioFrame) -> Samples:
    # A copy, as the frame's memory is used again.
    return np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples * frame.layout.nb_channels).copy()


def _decoded(path: Path, rate_hz: int, layout: str, least_samples: int) -> Iterator[Samples]:
    """The samples, interleaved, at least so many at once, but for the last."""
    resampler = AudioResampler(format="s16", layout=layout, rate=rate_hz)
    parts: list[Samples] = []
    try:
        with av.open(str(path), mode="r", format="ogg") as container:
            stream = container.streams.audio[0]
            for frame in container.decode(stream):
                parts += map(_samples, resampler.resample(frame))
                if sum(map(len, parts)) >= least_samples:
                    yield np.concatenate(parts)
                    parts = []
            parts += map(_samples, resampler.resample(None))
    except (av.FFmpegError, IndexError) as error:
        raise NotARecording(f"{path.name}: {error}") from error
    if parts:
        yield np.concatenate(parts)
