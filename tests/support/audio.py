"""Samples, files and codecs. Everywhere in the tests, samples are float32, mono, 48 kHz, full scale 1.0."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 48_000
# 20 ms, what browsers put into one Opus packet.
OPUS_FRAME_SAMPLES = 960

Samples: TypeAlias = NDArray[np.float32]


def level_dbfs(samples: Samples) -> float:
    """RMS level; -inf for digital silence and for no samples at all."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0
    return 10 * float(np.log10(power)) if power else -np.inf


def write_wav(path: Path, samples: Samples) -> None:
    """Write a 16-bit WAV file; what is beyond full scale is clipped."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def decode_audio(source: Path | bytes) -> Samples:
    """Decode a file, or the bytes of one, in any format that FFmpeg knows. Several channels are mixed to one.

    A stream that was cut off inside a frame gives what was whole; a source without any audio gives no samples.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    parts: list[Samples] = []
    try:
        with av.open(opened, "r") as container:
            for frame in container.decode(audio=0):
                parts += [_samples_of(part) for part in resampler.resample(frame)]
            parts += [_samples_of(part) for part in resampler.resample(None)]
    except (av.error.InvalidDataError, av.error.EOFError, av.error.ArgumentError):
        # Players that are stopped, or still play, leave half a frame, half a sample, or nothing at all.
        pass
    return _joined(parts)


def encode_opus(samples: Samples, *, bitrate_bps: int = 32_000) -> list[bytes]:
    """Encode as a browser does for speech: one Opus packet per 20 ms."""
    encoder = AudioCodecContext.create("libopus", "w")
    encoder.sample_rate = SAMPLE_RATE_HZ
    encoder.layout = "mono"
    encoder.format = "flt"
    encoder.bit_rate = bitrate_bps
    encoder.options = {"application": "voip"}
    payloads: list[bytes] = []
    for start in range(0, samples.size - OPUS_FRAME_SAMPLES + 1, OPUS_FRAME_SAMPLES):
        frame = _frame_of(samples[start : start + OPUS_FRAME_SAMPLES])
        frame.pts = start
        payloads += [bytes(packet) for packet in encoder.encode(frame)]
    return payloads + [bytes(packet) for packet in encoder.encode(None)]


def decode_opus(payloads: Iterable[bytes]) -> Samples:
    """Decode Opus packets that followed one another without a gap."""
    decoder = AudioCodecContext.create("libopus", "r")
    decoder.sample_rate = SAMPLE_RATE_HZ
    decoder.layout = "mono"
    decoder.format = "flt"
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    frames = [frame for payload in payloads for frame in decoder.decode(av.Packet(payload))]
    return _joined([_samples_of(part) for frame in frames for part in resampler.resample(frame)])


def encode_mp3(samples: Samples, *, bitrate_bps: int = 128_000, sample_rate_hz: int = 44_100) -> bytes:
    """Encode as a stereo MP3 of constant bitrate."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate_hz, layout="stereo", format="s16p")
        stream.bit_rate = bitrate_bps
        resampler = AudioResampler(format="s16p", layout="stereo", rate=sample_rate_hz)
        for frame in [*resampler.resample(_frame_of(samples)), *resampler.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def _frame_of(samples: Samples) -> AudioFrame:
    frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE_HZ
    return frame


def _samples_of(frame: AudioFrame) -> Samples:
    return np.asarray(frame.to_ndarray(), dtype=np.float32).reshape(-1)


def _joined(parts: list[Samples]) -> Samples:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
