"""PCM of a track: decoded once, for however many consumers, and only while there is one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .opus import CLOCK_RATE_HZ, BrokenPacket, OpusDecoder, OpusPacket, Samples
from .turns import Turns

logger = logging.getLogger(__name__)

REORDER_PACKETS = 3
"""Packets that wait for a missing one. Wi-Fi reorders by one or two; three packets delay the first by 40 ms."""

CONCEAL_SAMPLES = CLOCK_RATE_HZ // 10
"""Longest concealment: after about 100 ms what libopus makes up no longer sounds like the voice."""

MOST_WAITING_PACKETS = 50
"""Packets that may wait for sinks that pull: one second of 20 ms packets."""

FADE_SAMPLES = CLOCK_RATE_HZ // 200
"""5 ms: long enough for no click, too short to swallow a consonant."""


class PcmBlock(NamedTuple):
    """Consecutive samples of a stream; mostly 20 ms, but any length that Opus has (2.5 to 120 ms)."""

    samples: Samples
    timestamp: int
    """Of the first sample, on the timeline of OpusPacket.timestamp. Blocks come in order; a pause is a hole."""
    concealed: bool
    """Made up, for a packet that did not come."""
    arrived_s: float
    """When the packet was read (monotonic); of a concealed block, when the last packet before it was."""


class PcmSink(Protocol):
    """Takes a stream's PCM. Both calls must be quick and may not await."""

    def on_pcm(self, block: PcmBlock) -> None: ...

    def on_end(self) -> None:
        """The track ended: called once, and nothing comes after it."""


class PacketSource(Protocol):
    """What a PcmSource needs of its track."""

    @property
    def id(self) -> str: ...

    def attach(self, sink: PcmSource) -> None: ...
    def detach(self, sink: PcmSource) -> None: ...


@dataclass
class PcmCounters:
    """Of all sources of a relay together, since the start."""

    decoded_packets: int = 0
    late_packets: int = 0
    """Came after their time had been concealed, or twice."""
    broken_packets: int = 0
    concealed_packets: int = 0
    """Frames made up, each as long as the stream's packets mostly are."""


class PcmTimeline:
    """Puts packets in order, decodes them and conceals short gaps; no I/O, no clock. Blocks leave through `emit`.

    What it emits has no step at a pause: sound dies away before one, and fades in after it.
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
        """Samples made up since the last packet; at CONCEAL_SAMPLES the sound has been faded out."""

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
        """For a consumer whose time has come and that has no samples: emits something, or returns False.

        First what waits for a missing packet, then concealment, up to CONCEAL_SAMPLES in a row. After False, nothing
        but silence fits, and what was emitted last has faded into it.
        """
        if self._held:
            self._play_next()
            return True
        if self._concealed >= CONCEAL_SAMPLES:
            return False
        self._emit_concealment(CONCEAL_SAMPLES)
        return True

    def finish(self) -> None:
        """The last packet has come: emits what waits, and fades out."""
        while self._held:
            self._play_next()
        if self._concealed < CONCEAL_SAMPLES:
            self._concealed = CONCEAL_SAMPLES - 1
            self._emit_concealment(CONCEAL_SAMPLES)

    def _play_next(self) -> None:
        """Decodes the packet that is next of those that came; whatever is missing before it is given up."""
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


class PcmSource:
    """The one decode of a track. Sinks get every block from the moment they attach; without a sink nothing is decoded.

    Decoding runs in a turn of its own after the packet's arrival, or later if no sink minds. Obtained from
    `VoiceRelay.pcm`.
    """

    def __init__(self, track: PacketSource, turns: Turns, counters: PcmCounters) -> None:
        self._track = track
        self._turns = turns
        self._sinks: dict[PcmSink, bool] = {}
        """Each with whether it pulls; replaced when it changes, as a sink may leave while it is told something."""
        self._decodes_soon = False
        self._arrived: deque[OpusPacket | None] = deque()
        self._counters = counters
        self._timeline: PcmTimeline | None = None
        """There while there are sinks."""
        self._ended = False

    def attach(self, sink: PcmSink, *, pulls: bool = False) -> None:
        """Hands the sink every block from now on; when the track has ended, the sink is told at once.

        One that `pulls` can wait until it calls `conceal`: a codec that is called for many packets in a row costs half.
        """
        if self._ended:
            sink.on_end()
            return
        self._sinks = {**self._sinks, sink: pulls}
        if len(self._sinks) == 1:
            self._arrived.clear()
            self._timeline = PcmTimeline(self._emit, self._counters)
            self._track.attach(self)

    def detach(self, sink: PcmSink) -> None:
        """Takes the sink off, without `on_end`; safe within the sink's own calls, and when it is not attached."""
        if sink in self._sinks:
            self._sinks = {other: pulls for other, pulls in self._sinks.items() if other is not sink}
            if not self._sinks:
                self._timeline = None
                self._track.detach(self)

    def conceal(self) -> bool:
        """For a sink that needs samples now: every sink gets some by `on_pcm`, or False is returned.

        False: nothing but silence fits, and what was handed out last has faded into it.
        """
        if self._timeline is None:
            return False
        if self._arrived:
            self._decode_arrived()
            return True
        return self._timeline.conceal()

    def on_packet(self, packet: OpusPacket) -> None:
        self._arrived.append(packet)
        if not all(self._sinks.values()) or len(self._arrived) >= MOST_WAITING_PACKETS:
            self._decode_soon()

    def on_end(self) -> None:
        self._ended = True
        self._arrived.append(None)
        self._decode_soon()

    def _decode_soon(self) -> None:
        if not self._decodes_soon:
            self._decodes_soon = True
            self._turns.add(self._decode_arrived)

    def _decode_arrived(self) -> None:
        self._decodes_soon = False
        while self._arrived and self._timeline is not None:
            packet = self._arrived.popleft()
            if packet is not None:
                self._timeline.push(packet)
            else:
                self._timeline.finish()
                self._tell_end()

    def _tell_end(self) -> None:
        sinks, self._sinks, self._timeline = self._sinks, {}, None
        for sink in sinks:
            try:
                sink.on_end()
            except Exception:  # noqa: BLE001 - _drop logs it
                self._drop(sink)

    def _emit(self, block: PcmBlock) -> None:
        for sink in self._sinks:
            try:
                sink.on_pcm(block)
            except Exception:  # noqa: BLE001 - _drop logs it
                self._drop(sink)

    def _drop(self, sink: PcmSink) -> None:
        logger.exception("PCM of track %s: %s failed and is detached", self._track.id, type(sink).__name__)
        self.detach(sink)


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
