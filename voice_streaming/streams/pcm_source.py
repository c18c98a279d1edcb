"""The one decode of a track, for however many consumers, and only while there is one."""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from ..media.opus import OpusPacket
from ..media.pcm import PcmBlock, PcmCounters, PcmTimeline
from ..process.turns import Turns

logger = logging.getLogger(__name__)


MOST_WAITING_PACKETS = 50
"""Packets that may wait for sinks that pull: one second of 20 ms packets."""


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
