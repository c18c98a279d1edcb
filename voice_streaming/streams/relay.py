"""Distributes a track's packets to every sink.

`VoiceRelay` is a `MediaRelay`: `relay.subscribe(track)` works as in aiortc, with two differences. Its queues are
bounded, and sinks get a packet in the same call that received it, without a task in between.
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
"""Packets that a subscribed track queues for a slow consumer: one second of 20 ms packets."""

TIME_BASE = Fraction(1, CLOCK_RATE_HZ)


class SubscribedTrack(MediaStreamTrack):
    """A consumer's own queue of a track: `recv` returns the packets as `av.Packet`s, in order.

    It fills from `VoiceRelay.subscribe` on, not from the first `recv`. When the consumer is QUEUE_PACKETS behind, the
    oldest are dropped and counted in `dropped`.
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
        """Queues the source's packets until `stop` or the source's end."""
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
    """Distributes tracks: `attach` for sinks, which are called with each packet; `subscribe` for those that await."""

    def __init__(self, failures: Failures | None = None) -> None:
        super().__init__()
        self._pcm: weakref.WeakValueDictionary[str, PcmSource] = weakref.WeakValueDictionary()
        self._turns = Turns("decoding", failures)
        self.pcm_counters = PcmCounters()

    def subscribe(self, track: MediaStreamTrack, buffered: bool = True) -> SubscribedTrack:
        """A new track with `track`'s packets from now on; call its `stop` to unsubscribe.

        `buffered` is aiortc's and is ignored, as every queue is bounded. For a track that has ended, the first `recv`
        raises MediaStreamError. Raises TypeError for a track that is no OpusTrack.
        """
        if not isinstance(track, OpusTrack):
            raise TypeError(f"{type(track).__name__} is no OpusTrack")
        subscribed = SubscribedTrack(track.kind)
        subscribed.follow(track)
        return subscribed

    def attach(self, track: OpusTrack, sink: PacketSink) -> None:
        """Passes every packet of the track to the sink from now on, the one that is being handed out included.

        Calls `on_end` at once if the track has ended.
        """
        track.attach(sink)

    def detach(self, track: OpusTrack, sink: PacketSink) -> None:
        """Detaches the sink, without `on_end`; safe within the sink's own methods, and when it is not attached."""
        track.detach(sink)

    def pcm(self, track: OpusTrack) -> PcmSource:
        """The track's PCM, always the same object while it is referenced or has sinks."""
        source = self._pcm.get(track.id)
        if source is None:
            source = self._pcm[track.id] = PcmSource(track, self._turns, self.pcm_counters)
        return source


class FirstPacket:
    """A sink that calls `call` once, at the track's next packet."""

    def __init__(self, relay: VoiceRelay, track: OpusTrack, call: Callable[[], None]) -> None:
        self._relay = relay
        self._track = track
        self._call = call
        relay.attach(track, self)

    def cancel(self) -> None:
        """Does not call any more; safe after the call."""
        self._relay.detach(self._track, self)

    def on_packet(self, packet: OpusPacket) -> None:
        self.cancel()
        self._call()

    def on_end(self) -> None:
        """A no-op: no packet follows."""
