"""One packet in, many hands out.

`VoiceRelay` is a `MediaRelay`, so that `relay.subscribe(track)` works as aiortc's users know it, with two differences:
its queues are bounded, and packets are handed to sinks in the very call that received them, with no task in between.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import av
from aiortc import MediaStreamTrack
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError
from av.frame import Frame

from .opus import CLOCK_RATE_HZ, OpusPacket
from .pcm import PcmCounters, PcmSource
from .rtp import Timeline
from .turns import Turns

logger = logging.getLogger(__name__)

QUEUE_PACKETS = 50
"""Packets that a subscribed track holds for a consumer that is late: one second of 20 ms packets."""

TIME_BASE = Fraction(1, CLOCK_RATE_HZ)


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


class SubscribedTrack(MediaStreamTrack):
    """A consumer's own view of a track: `recv` gives `av.Packet`s (or what a foreign source gives), in order.

    It registers at once, not at the first `recv`. When its consumer is late by more than QUEUE_PACKETS, the oldest are
    dropped and counted in `dropped`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.dropped = 0
        self._items: deque[av.Packet[Any] | Frame] = deque(maxlen=QUEUE_PACKETS)
        self._ended = False
        self._changed = asyncio.Event()
        self._source: OpusTrack | _Pump | None = None

    def follow(self, source: OpusTrack | _Pump) -> None:
        """Takes the source's items until `stop` or the source's end."""
        self._source = source
        source.attach(self)

    def on_packet(self, packet: OpusPacket) -> None:
        item: av.Packet[Any] = av.Packet(packet.payload)
        item.pts = item.dts = packet.timestamp
        item.time_base = TIME_BASE
        self.on_item(item)

    def on_item(self, item: av.Packet[Any] | Frame) -> None:
        if len(self._items) == QUEUE_PACKETS:
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def on_end(self) -> None:
        self._ended = True
        self._changed.set()

    async def recv(self) -> av.Packet[Any] | Frame:
        """The next item; raises MediaStreamError once the source has ended and all that was queued is read."""
        while self.readyState == "live":
            if self._items:
                return self._items.popleft()
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


class _Pump:
    """Reads a foreign track (one that is no OpusTrack) for its subscribers, for as long as there are any."""

    def __init__(self, source: MediaStreamTrack) -> None:
        self._source = source
        self._subscribers: tuple[SubscribedTrack, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def attach(self, subscriber: SubscribedTrack) -> None:
        if self._source.readyState != "live":
            subscriber.on_end()
            return
        self._subscribers = (*self._subscribers, subscriber)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"relay-pump-{self._source.id}")

    def detach(self, subscriber: SubscribedTrack) -> None:
        self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)
        if not self._subscribers and self._task is not None:
            self._task.cancel()
            self._task = None

    def end(self) -> None:
        """The source ended: its subscribers are told. A `recv` that waits may never learn of it."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        subscribers, self._subscribers = self._subscribers, ()
        for subscriber in subscribers:
            subscriber.on_end()

    async def _run(self) -> None:
        try:
            while True:
                item = await self._source.recv()
                for subscriber in self._subscribers:
                    subscriber.on_item(item)
        except MediaStreamError:
            logger.debug("Track %s ended", self._source.id)
        except Exception:
            logger.exception("Track %s failed", self._source.id)
        self._task = None
        self.end()


class VoiceRelay(MediaRelay):
    """Distributes live tracks: `attach` for whoever takes packets as they come, `subscribe` for whoever awaits them."""

    def __init__(self) -> None:
        super().__init__()
        self._pumps: dict[str, _Pump] = {}
        self._pcm: weakref.WeakValueDictionary[str, PcmSource] = weakref.WeakValueDictionary()
        self._turns = Turns()
        self.pcm_counters = PcmCounters()

    def subscribe(self, track: MediaStreamTrack, buffered: bool = True) -> SubscribedTrack:
        """A track of the consumer's own that gives `track`'s packets from now on; stop it to leave.

        `buffered` is aiortc's and makes no difference: every queue is bounded, so none can grow. A track that has ended
        gives one that raises MediaStreamError at the first `recv`.
        """
        subscribed = SubscribedTrack(track.kind)
        if isinstance(track, OpusTrack):
            subscribed.follow(track)
        else:
            subscribed.follow(self._pump(track))
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

    def _pump(self, track: MediaStreamTrack) -> _Pump:
        pump = self._pumps.get(track.id)
        if pump is None:
            pump = _Pump(track)
            if track.readyState == "live":
                self._pumps[track.id] = pump
                track.add_listener("ended", lambda: self._pumps.pop(track.id).end())
        return pump


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
