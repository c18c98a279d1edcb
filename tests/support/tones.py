"""Tones as the server has them once it has decoded a packet: 16 bits, 48 kHz, a column for each channel."""

from __future__ import annotations

import numpy as np

from voice_streaming.media.levels import Samples

SECOND = 48_000


def tone(frequency_hz: float, peak_db: float = 0.0, samples: int = SECOND, channels: int = 2) -> Samples:
    """A sine that reaches `peak_db`, the same in all channels."""
    amplitude = 32_767 * 10 ** (peak_db / 20)
    wave = np.round(amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / SECOND)).astype(np.int16)
    return np.repeat(wave[:, np.newaxis], channels, axis=1)
