"""The registry of streams: a stream is created, paused, resumed and removed here alone."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Callable

from ..process.failures import Failures
from ..process.refusal import Refused
from .grants import EVERYTHING, Grant
from .names import name_key
from .relay import FirstPacket, VoiceRelay
from .stream import Stream, StreamState, find, newest
from .track import OpusTrack

logger = logging.getLogger(__name__)

REMEMBERED_ENDS = 64
"""Ids of ended streams that are still told apart from ids that never were."""


class StreamObserver:
    """Called at each change of a stream's state; to be subclassed. No call may change the same stream."""

    def on_stream_live(self, stream: Stream) -> None:
        """The first packet can be relayed."""

    def on_stream_paused(self, stream: Stream) -> None:
        """The sender is lost, and has some time to come back, or is silent."""

    def on_stream_resumed(self, stream: Stream) -> None:
        """A sender has taken the stream up again."""

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        """The stream has ended. It was live, and is still in the registry."""

    def on_stream_moved(self, stream: Stream) -> None:
        """Its sender is with another server of the cluster now, or with this one: see `is_remote`."""

    def on_stream_dropped(self, stream: Stream, reason: str) -> None:
        """The stream has ended before its first packet: it was never announced. It is still in the registry."""


class StreamSupplier:
    """Begins streams on demand; to be subclassed."""

    async def supply(self, stream_id: str) -> None:
        """Returns when the stream is live, or cannot be had soon; at once for an id that means nothing to it."""
        raise NotImplementedError


class Streams:
    """`active` holds every stream that has not been removed, by id, those before their first packet included."""

    def __init__(self, relay: VoiceRelay, resume_grace_s: float, failures: Failures | None = None) -> None:
        self.active: dict[str, Stream] = {}
        self.node = ""
        """What this server is called in its cluster."""
        self.ended_bytes = 0
        """Payload bytes of the streams that were removed."""
        self._relay = relay
        self._resume_grace_s = resume_grace_s
        self._failures = Failures() if failures is None else failures
        self._observers: list[StreamObserver] = []
        self._suppliers: list[StreamSupplier] = []
        self._ended_keys: deque[str] = deque(maxlen=REMEMBERED_ENDS)
        self._graces: dict[Stream, asyncio.TimerHandle] = {}

    def observe(self, observer: StreamObserver) -> None:
        """Calls the observer from now on, after those before it; when one fails, the others are called all the same."""
        self._observers.append(observer)

    def supplied_by(self, supplier: StreamSupplier) -> None:
        """Has `obtain` ask the supplier, after those before it."""
        self._suppliers.append(supplier)

    def create(self, stream_id: str, name: str, sender_id: str, *, permanent: bool = False) -> Stream:
        """A new stream, which is live with the first packet on its track."""
        stream = Stream(stream_id, name, OpusTrack(), sender_id, permanent=permanent, node=self.node)
        self.active[stream_id] = stream
        FirstPacket(self._relay, stream.track, functools.partial(self._start, stream))
        return stream

    def create_remote(self, stream: Stream) -> None:
        """A stream of another server of the cluster, which is live because that says so."""
        started_at = stream.started_at
        self.active[stream.id] = stream
        stream.advance(StreamState.ACTIVE)
        stream.started_at = started_at
        self._notify(lambda observer: observer.on_stream_live(stream))

    def move(self, stream: Stream, node: str, *, is_remote: bool) -> None:
        """Its sender is with that server from now on, and whoever takes it goes on."""
        is_same = (stream.node, stream.is_remote) == (node, is_remote)
        stream.node, stream.is_remote = node, is_remote
        if not is_same:
            self._notify(lambda observer: observer.on_stream_moved(stream))

    def find(self, stream_id: str | None) -> Stream | None:
        """The stream that the id means, live or not yet: `Kitchen` and `kitchen` are one."""
        return find(self.active, stream_id)

    def live(self, stream_id: str | None, grant: Grant = EVERYTHING) -> Stream:
        """That stream, or the newest that the grant covers. Raises Refused `no_stream` or `stream_ended`."""
        stream = newest(self.active, grant) if stream_id is None else self.find(stream_id)
        if stream is not None and stream.is_live and stream.may_be_heard_with(grant):
            return stream
        if stream_id is not None and name_key(stream_id) in self._ended_keys:
            raise Refused("stream_ended", "Stream ended")
        raise Refused("no_stream", "No audio stream available")

    async def obtain(self, stream_id: str | None, grant: Grant = EVERYTHING) -> Stream:
        """The same as `live`, but one that can be had on demand is begun, and waited for."""
        for supplier in self._suppliers if stream_id is not None else ():
            stream = self.find(stream_id)
            if stream is None or not stream.is_live:
                await supplier.supply(stream_id or "")
        return self.live(stream_id, grant)

    def own(self) -> list[Stream]:
        """Those whose senders are with this server."""
        return [stream for stream in self.active.values() if not stream.is_remote]

    @property
    def live_count(self) -> int:
        return len([stream for stream in self.active.values() if stream.is_live])

    @property
    def total_bytes(self) -> int:
        """Payload bytes of all streams there ever were."""
        return self.ended_bytes + sum(stream.track.payload_bytes for stream in self.active.values())

    def pause(self, stream: Stream, reason: str) -> None:
        """The sender is lost: the stream ends with `reason` unless a sender takes it up in `resume_grace_s`."""
        if not stream.is_live:
            self.end(stream, reason)
            return
        if stream not in self._graces:
            loop = asyncio.get_running_loop()
            self._graces[stream] = loop.call_later(self._resume_grace_s, self.end, stream, reason)
        self.pause_silent(stream, reason)

    def pause_silent(self, stream: Stream, reason: str) -> None:
        """The sender is there, but sends nothing: the stream pauses for as long as that lasts."""
        if stream.is_live and not stream.paused:
            logger.info("Stream %s pauses: %s", ascii(stream.id), reason)
            stream.paused = True
            self._notify(lambda observer: observer.on_stream_paused(stream))

    def keep(self, stream: Stream) -> None:
        """A sender is connected again: the stream does not end, and stays paused until its next packet."""
        self._cancel_grace(stream)

    def resume(self, stream: Stream) -> None:
        """A sender's media is there again; safe for a stream that did not pause."""
        self._cancel_grace(stream)
        if stream.paused:
            logger.info("Stream %s goes on", ascii(stream.id))
            stream.paused = False
            self._notify(lambda observer: observer.on_stream_resumed(stream))

    def end(self, stream: Stream, reason: str) -> None:
        """Ends the stream and removes it; safe to call twice."""
        if stream.state in (StreamState.ENDED, StreamState.REMOVED):
            return
        was_live = stream.is_live
        stream.advance(StreamState.ENDED)
        self._cancel_grace(stream)
        stream.track.stop()
        if was_live:
            logger.info("Stream %s ended: %s", ascii(stream.id), reason)
            self._notify(lambda observer: observer.on_stream_ended(stream, reason))
            self._ended_keys.append(stream.key)
        else:
            self._notify(lambda observer: observer.on_stream_dropped(stream, reason))
        self.ended_bytes += stream.track.payload_bytes
        del self.active[stream.id]
        stream.advance(StreamState.REMOVED)

    def end_stale(self, idle_timeout_s: float) -> None:
        """Ends streams whose track ended, and those that nobody has consumed for so long."""
        now_s = time.monotonic()
        for stream in self.own():
            if stream.track.readyState == "ended":
                self.end(stream, "track ended")
            elif stream.is_consumed or stream.permanent or stream.is_reserved:
                stream.last_activity = now_s
            elif now_s - stream.last_activity > idle_timeout_s:
                self.end(stream, "idle")

    def _cancel_grace(self, stream: Stream) -> None:
        if (grace := self._graces.pop(stream, None)) is not None:
            grace.cancel()

    def _start(self, stream: Stream) -> None:
        stream.advance(StreamState.ACTIVE)
        logger.info("Stream %s is live", ascii(stream.id))
        self._notify(lambda observer: observer.on_stream_live(stream))

    def _notify(self, call: Callable[[StreamObserver], None]) -> None:
        for observer in self._observers:
            with self._failures.guard(f"observer-{type(observer).__name__}"):
                call(observer)
