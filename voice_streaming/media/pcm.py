"""From Opus packets to PCM: reordering, decoding and loss concealment. No I/O, no clock."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .opus import CLOCK_RATE_HZ, BrokenPacket, OpusDecoder, OpusPacket, Samples

logger = logging.getLogger(__name__)

REORDER_PACKETS = 3
"""Packets that are buffered while one before them is missing. Wi-Fi reorders by one or two; three packets delay the
first by 40 ms."""

CONCEAL_SAMPLES = CLOCK_RATE_HZ // 10
"""Longest concealment: after about 100 ms the concealed sound no longer resembles the voice."""

FADE_SAMPLES = CLOCK_RATE_HZ // 200
"""5 ms: long enough to avoid a click, too short to mask a consonant."""


class PcmBlock(NamedTuple):
    """Consecutive samples of a stream; mostly 20 ms, but any length that Opus has (2.5 to 120 ms)."""

    samples: Samples
    timestamp: int
    """Of the first sample, on the timeline of OpusPacket.timestamp. Blocks come in order; a pause is a gap."""
    concealed: bool
    """Synthesised by the decoder, for a missing packet."""
    arrived_s: float
    """Monotonic seconds at which the packet was read; for a concealed block, the last packet before it."""


@dataclass
class PcmCounters:
    """Of all sources of a relay together, since the start."""

    decoded_packets: int = 0
    late_packets: int = 0
    """Arrived after they had been concealed, or twice."""
    broken_packets: int = 0
    concealed_packets: int = 0
    """Concealed frames, each as long as the stream's packets mostly are."""


class PcmTimeline:
    """Reorders packets, decodes them and conceals short gaps; every block is passed to `emit`.

    The waveform is continuous at a pause: it fades out before one and fades in after it.
    """

    def __init__(self, emit: Callable[[PcmBlock], None], counters: PcmCounters) -> None:
        self._counters = counters
        self._emit = emit
        self._decoder = OpusDecoder()
        self._held: dict[int, OpusPacket] = {}
        self._next_sequence: int | None = None
        self._next_timestamp: int | None = None
        self._arrived_s = 0.0
        self._concealed = CONCEAL_SAMPLES
        """Samples concealed since the last packet; at CONCEAL_SAMPLES the sound has been faded out."""

    @property
    def holds_packets(self) -> bool:
        """Whether packets are buffered for one before them that is missing."""
        return bool(self._held)

    def push(self, packet: OpusPacket) -> None:
        """Takes a packet, in whatever order it arrived."""
        if self._next_sequence is None:
            self._next_sequence = packet.sequence
        if packet.sequence < self._next_sequence or packet.sequence in self._held:
            self._counters.late_packets += 1
            return
        self._held[packet.sequence] = packet
        while self._next_sequence in self._held or len(self._held) >= REORDER_PACKETS:
            self._play_next()

    def conceal(self) -> bool:
        """For a consumer that needs samples now: emits a block, or returns False.

        Packets that are buffered for a missing one are decoded first; then concealment follows, up to CONCEAL_SAMPLES
        in a row. After False only silence may follow; the last block has faded out to it.
        """
        if self._held:
            self._play_next()
            return True
        if self._concealed >= CONCEAL_SAMPLES:
            return False
        self._emit_concealment(CONCEAL_SAMPLES)
        return True

    def finish(self) -> None:
        """No packet will follow: emits the buffered packets, and fades out."""
        while self._held:
            self._play_next()
        if self._concealed < CONCEAL_SAMPLES:
            self._concealed = CONCEAL_SAMPLES - 1
            self._emit_concealment(CONCEAL_SAMPLES)

    def _play_next(self) -> None:
        """Decodes the first buffered packet; those missing before it are given up."""
        packet = self._held.pop(min(self._held))
        self._next_sequence = packet.sequence + 1
        if self._next_timestamp is None:
            self._next_timestamp = packet.timestamp
        gap = packet.timestamp - self._next_timestamp
        if -CONCEAL_SAMPLES <= gap < 0 < self._concealed:
            self._counters.late_packets += 1
            return
        while gap > 0 and self._concealed < CONCEAL_SAMPLES:
            self._emit_concealment(gap)
            gap = packet.timestamp - self._next_timestamp
        self._play(packet)

    def _play(self, packet: OpusPacket) -> None:
        try:
            samples = self._decoder.decode(packet.payload)
        except BrokenPacket as error:
            self._counters.broken_packets += 1
            logger.debug("Opus packet %d is broken: %s", packet.sequence, error)
            return
        if self._concealed >= CONCEAL_SAMPLES:
            samples = faded_in(samples)
        self._concealed = 0
        self._arrived_s = packet.arrived_s
        self._next_timestamp = packet.timestamp + len(samples)
        self._counters.decoded_packets += 1
        self._emit(PcmBlock(samples, packet.timestamp, False, packet.arrived_s))

    def _emit_concealment(self, wanted: int) -> None:
        """One frame of concealment, at most `wanted` samples; it fades out if it is the last that is allowed."""
        assert self._next_timestamp is not None
        left = CONCEAL_SAMPLES - self._concealed
        samples = self._decoder.conceal()[: min(wanted, max(left, FADE_SAMPLES))]
        self._concealed += len(samples)
        if self._concealed >= CONCEAL_SAMPLES:
            samples = faded_out(samples)
        self._counters.concealed_packets += 1
        block = PcmBlock(samples, self._next_timestamp, True, self._arrived_s)
        self._next_timestamp += len(samples)
        self._emit(block)


def faded_in(samples: Samples) -> Samples:
    """A copy that rises from silence within FADE_SAMPLES."""
    fade = min(FADE_SAMPLES, len(samples))
    result = samples.copy()
    result[:fade] = samples[:fade] * _ramp(fade)
    return result


def faded_out(samples: Samples) -> Samples:
    """A copy that falls to silence over its whole length."""
    return (samples * _ramp(len(samples))[::-1]).astype(np.int16)


def _ramp(length: int) -> NDArray[np.float64]:
    rising: NDArray[np.float64] = np.sin(np.linspace(0, np.pi / 2, length, endpoint=False)) ** 2
    return rising[:, np.newaxis]
