"""A live track of Opus packets, and who takes them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..media.opus import OpusPacket
from .timeline import Timeline

logger = logging.getLogger(__name__)


class PacketSink(Protocol):
    """Takes the packets of one track, in the order in which they arrived. Neither call may block or await."""

    def on_packet(self, packet: OpusPacket) -> None: ...

    def on_end(self) -> None:
        """The track ended: called once, and nothing comes after it."""


class OpusTrack(MediaStreamTrack):
    """A live track of Opus packets, fed by `publish`.

    It holds no packets: whoever wants them attaches to the relay. `timeline` places a sender's packets on the track's
    own time, across a change of sender. `last_packet_s` is the monotonic time of the newest packet, None before the
    first.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.timeline = Timeline()
        self._sinks: tuple[PacketSink, ...] = ()
        self.last_packet_s: float | None = None
        self.packets = 0
        self.payload_bytes = 0

    def publish(self, packet: OpusPacket) -> None:
        """Hands the packet to every sink, at once. A sink that fails is detached, and the others do not notice."""
        if self.readyState != "live":
            return
        self.last_packet_s = packet.arrived_s
        self.packets += 1
        self.payload_bytes += len(packet.payload)
        for sink in self._sinks:
            # One before it may have detached it, or ended the track.
            if sink not in self._sinks:
                continue
            try:
                sink.on_packet(packet)
            except Exception:
                logger.exception("Track %s: %s failed and is detached", self.id, type(sink).__name__)
                self.detach(sink)

    def attach(self, sink: PacketSink) -> None:
        """For `VoiceRelay.attach`."""
        if self.readyState != "live":
            sink.on_end()
        elif sink not in self._sinks:
            self._sinks = (*self._sinks, sink)

    def detach(self, sink: PacketSink) -> None:
        """For `VoiceRelay.detach`."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)

    async def recv(self) -> av.Packet[Any]:
        raise MediaStreamError("an OpusTrack is read through VoiceRelay.subscribe()")

    def stop(self) -> None:
        """Ends the track: every sink is told, once."""
        if self.readyState != "live":
            return
        super().stop()
        sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            try:
                sink.on_end()
            except Exception:
                logger.exception("Track %s: %s failed at its end", self.id, type(sink).__name__)
