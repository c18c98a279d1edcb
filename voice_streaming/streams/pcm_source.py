"""Decodes a track once for all consumers, and only while there is one."""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from ..media.opus import OpusPacket
from ..media.pcm import PcmBlock, PcmCounters, PcmTimeline
from ..process.turns import Turns

logger = logging.getLogger(__name__)

MOST_WAITING_PACKETS = 50
"""Undecoded packets that are queued for sinks that pull: one second of 20 ms packets."""


class PcmSink(Protocol):
    """Consumes a stream's PCM. Both methods must return within a millisecond."""

    def on_pcm(self, block: PcmBlock) -> None: ...

    def on_end(self) -> None:
        """The track ended: called once, and nothing comes after it."""


class PacketSource(Protocol):
    """What a PcmSource needs of its track."""

    @property
    def id(self) -> str: ...

    def attach(self, sink: PcmSource) -> None: ...
    def detach(self, sink: PcmSource) -> None: ...


class PcmSource:
    """Decodes a track for all of its sinks; without a sink nothing is decoded. Obtained from `VoiceRelay.pcm`.

    A packet is decoded in a later turn of the event loop; when all sinks pull, only when one of them needs samples.
    """

    def __init__(self, track: PacketSource, turns: Turns, counters: PcmCounters) -> None:
        self._track = track
        self._turns = turns
        self._sinks: dict[PcmSink, bool] = {}
        """For each sink whether it pulls. Replaced, never changed, as a sink may detach while it is iterated."""
        self._is_decode_scheduled = False
        self._arrived: deque[OpusPacket | None] = deque()
        self._counters = counters
        self._timeline: PcmTimeline | None = None
        """None without sinks."""
        self._ended = False

    @property
    def has_waiting_packets(self) -> bool:
        """Whether packets have arrived whose sound no sink has got yet."""
        return bool(self._arrived) or (self._timeline is not None and self._timeline.holds_packets)

    def attach(self, sink: PcmSink, *, pulls: bool = False) -> None:
        """Passes every block to the sink from now on; `on_end` is called at once when the track has ended.

        A sink that `pulls` calls `conceal` when it needs samples: decoding many packets in a row costs half as much.
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
        """Detaches the sink, without `on_end`; safe within the sink's own methods, and when it is not attached."""
        if sink in self._sinks:
            self._sinks = {other: pulls for other, pulls in self._sinks.items() if other is not sink}
            if not self._sinks:
                self._timeline = None
                self._track.detach(self)

    def conceal(self) -> bool:
        """For a sink that needs samples now: passes a block to every sink, or returns False.

        After False only silence may follow; the last block has faded out to it.
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
            self._schedule_decode()

    def on_end(self) -> None:
        self._ended = True
        self._arrived.append(None)
        self._schedule_decode()

    def _schedule_decode(self) -> None:
        if not self._is_decode_scheduled:
            self._is_decode_scheduled = True
            self._turns.add(self._decode_arrived)

    def _decode_arrived(self) -> None:
        self._is_decode_scheduled = False
        while self._arrived and self._timeline is not None:
            packet = self._arrived.popleft()
            if packet is not None:
                self._timeline.push(packet)
            else:
                self._timeline.finish()
                self._end_sinks()

    def _end_sinks(self) -> None:
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
