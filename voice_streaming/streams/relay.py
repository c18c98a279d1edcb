"""One packet in, handed to every sink.

`VoiceRelay` is a `MediaRelay`, so that `relay.subscribe(track)` works as aiortc's users know it, with two differences:
its queues are bounded, and packets are handed to sinks in the very call that received them, with no task in between.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError

from ..media.opus import CLOCK_RATE_HZ, OpusPacket
from ..media.pcm import PcmCounters
from ..process.failures import Failures
from ..process.turns import Turns
from .pcm_source import PcmSource
from .track import OpusTrack, PacketSink

QUEUE_PACKETS = 50
"""Packets that a subscribed track holds for a consumer that is late: one second of 20 ms packets."""

TIME_BASE = Fraction(1, CLOCK_RATE_HZ)


class SubscribedTrack(MediaStreamTrack):
    """A consumer's own view of a track: `recv` gives its packets as `av.Packet`s, in order.

    It registers at once, not at the first `recv`. When its consumer is late by more than QUEUE_PACKETS, the oldest are
    dropped and counted in `dropped`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.dropped = 0
        self._packets: deque[av.Packet[Any]] = deque(maxlen=QUEUE_PACKETS)
        self._ended = False
        self._changed = asyncio.Event()
        self._source: OpusTrack | None = None

    def follow(self, source: OpusTrack) -> None:
        """Takes the source's packets until `stop` or the source's end."""
        self._source = source
        source.attach(self)

    def on_packet(self, packet: OpusPacket) -> None:
        if len(self._packets) == QUEUE_PACKETS:
            self.dropped += 1
        queued: av.Packet[Any] = av.Packet(packet.payload)
        queued.pts = queued.dts = packet.timestamp
        queued.time_base = TIME_BASE
        self._packets.append(queued)
        self._changed.set()

    def on_end(self) -> None:
        self._ended = True
        self._changed.set()

    async def recv(self) -> av.Packet[Any]:
        """The next packet; raises MediaStreamError once the source has ended and all that was queued is read."""
        while self.readyState == "live":
            if self._packets:
                return self._packets.popleft()
            if self._ended:
                self.stop()
                break
            self._changed.clear()
            await self._changed.wait()
        raise MediaStreamError

    def stop(self) -> None:
        super().stop()
        self._changed.set()
        if self._source is not None:
            self._source.detach(self)
            self._source = None


class VoiceRelay(MediaRelay):
    """Distributes live tracks: `attach` for whoever takes packets as they come, `subscribe` for whoever awaits them."""

    def __init__(self, failures: Failures | None = None) -> None:
        super().__init__()
        self._pcm: weakref.WeakValueDictionary[str, PcmSource] = weakref.WeakValueDictionary()
        self._turns = Turns("decoding", failures)
        self.pcm_counters = PcmCounters()

    def subscribe(self, track: MediaStreamTrack, buffered: bool = True) -> SubscribedTrack:
        """A track of the consumer's own that gives `track`'s packets from now on; stop it to leave.

        `buffered` is aiortc's and makes no difference: every queue is bounded, so none can grow. A track that has ended
        gives one that raises MediaStreamError at the first `recv`. Raises TypeError for a track that is no OpusTrack:
        nothing publishes one here.
        """
        if not isinstance(track, OpusTrack):
            raise TypeError(f"{type(track).__name__} is no OpusTrack")
        subscribed = SubscribedTrack(track.kind)
        subscribed.follow(track)
        return subscribed

    def attach(self, track: OpusTrack, sink: PacketSink) -> None:
        """Hands the sink every packet of the track from now on; when the track has ended, the sink is told at once."""
        track.attach(sink)

    def detach(self, track: OpusTrack, sink: PacketSink) -> None:
        """Takes the sink off, without `on_end`; safe within the sink's own calls, and when it is not attached."""
        track.detach(sink)

    def pcm(self, track: OpusTrack) -> PcmSource:
        """The one decode of the track; forgotten when nobody holds it and nothing is attached to it."""
        source = self._pcm.get(track.id)
        if source is None:
            source = self._pcm[track.id] = PcmSource(track, self._turns, self.pcm_counters)
        return source


class FirstPacket:
    """A sink that calls back at a track's next packet, once."""

    def __init__(self, relay: VoiceRelay, track: OpusTrack, call: Callable[[], None]) -> None:
        self._relay, self._track, self._call = relay, track, call
        relay.attach(track, self)

    def on_packet(self, packet: OpusPacket) -> None:
        self._relay.detach(self._track, self)
        self._call()

    def on_end(self) -> None:
        """The packet never came."""
