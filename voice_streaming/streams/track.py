"""A live track of Opus packets: its source publishes, its sinks take them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..media.opus import OpusPacket
from ..process.refusal import Refused
from .source import Source
from .timeline import Timeline

logger = logging.getLogger(__name__)


class PacketSink(Protocol):
    """Takes the packets of one track, in the order in which they arrived. Neither call may block or await."""

    def on_packet(self, packet: OpusPacket) -> None: ...

    def on_end(self) -> None:
        """The track ended: called once, and nothing comes after it."""


class OpusTrack(MediaStreamTrack):
    """A live track of Opus packets, published by whoever took its source last.

    It holds no packets: whoever wants them attaches to the relay. Its timeline goes on across a change of source.
    `last_packet_s` is the monotonic time of the newest packet, None before the first.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.last_packet_s: float | None = None
        self.packets = 0
        self.payload_bytes = 0
        self._timeline = Timeline()
        self._source: Source | None = None
        self._sinks: tuple[PacketSink, ...] = ()
        self.on_wanted: Callable[[], None] | None = None
        """Called when somebody takes its packets, and when nobody does any more: see `is_wanted`."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody takes its packets."""
        return bool(self._sinks)

    @property
    def sequence(self) -> int:
        """The newest packet's, unwrapped; before the first, one that is close to what it will be."""
        return self._timeline.sequence

    @property
    def dropped_packets(self) -> int:
        """Packets of its sources that `Timeline.place` did not place."""
        return self._timeline.dropped_packets

    def check_takeable(self) -> None:
        """Raises Refused `name_taken` while somebody has its source exclusively."""
        if self._source is not None and self._source.is_current and self._source.is_exclusive:
            raise Refused("name_taken", "This stream is the server's own")

    def take_source(self, *, exclusive: bool = False) -> Source:
        """The only handle that may publish from now on; it begins a new epoch of the timeline.

        The former one ends. An `exclusive` one is nobody else's until its owner releases it: until then this raises
        Refused `name_taken`. The source of a track that has ended is ended as well.
        """
        self.check_takeable()
        former, source = self._source, Source(self._timeline, self._hand_out, is_exclusive=exclusive)
        if self.readyState != "live":
            source.release()
            return source
        self._source = source
        self._timeline.begin_epoch()
        if former is not None:
            former.release()
        return source

    def _hand_out(self, packet: OpusPacket) -> None:
        """Hands the packet to every sink, at once. A sink that fails is detached, and the others do not notice."""
        if self.readyState != "live":
            return
        self.last_packet_s = packet.arrived_s
        self.packets += 1
        self.payload_bytes += len(packet.payload)
        given = sinks = self._sinks
        while sinks:
            for sink in sinks:
                # One before it may have detached it, or ended the track.
                if sink not in self._sinks:
                    continue
                try:
                    sink.on_packet(packet)
                except Exception:
                    logger.exception("Track %s: %s failed and is detached", self.id, type(sink).__name__)
                    self.detach(sink)
            if self._sinks is given:
                return
            # Some came or went meanwhile. A first packet brings its listeners, who must not miss it.
            before, given = given, self._sinks
            sinks = tuple(sink for sink in given if sink not in before)

    def attach(self, sink: PacketSink) -> None:
        """For `VoiceRelay.attach`."""
        if self.readyState != "live":
            sink.on_end()
        elif sink not in self._sinks:
            self._sinks = (*self._sinks, sink)
            if len(self._sinks) == 1 and self.on_wanted is not None:
                self.on_wanted()

    def detach(self, sink: PacketSink) -> None:
        """For `VoiceRelay.detach`."""
        before = self._sinks
        self._sinks = tuple(other for other in before if other is not sink)
        if before and not self._sinks and self.on_wanted is not None:
            self.on_wanted()

    async def recv(self) -> av.Packet[Any]:
        raise MediaStreamError("an OpusTrack is read through VoiceRelay.subscribe()")

    def stop(self) -> None:
        """Ends the track: every sink is told, once; its source publishes no more and is told by the "ended" event."""
        if self.readyState != "live":
            return
        if self._source is not None:
            self._source.release()
            self._source = None
        super().stop()
        sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            try:
                sink.on_end()
            except Exception:
                logger.exception("Track %s: %s failed at its end", self.id, type(sink).__name__)
