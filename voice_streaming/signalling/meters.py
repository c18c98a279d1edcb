"""`audio_data`: a stream's level and spectrum, about ten times a second, for those who subscribed."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ..media.levels import SILENCE, Analyser, Analysis
from ..media.opus import Samples
from ..process.failures import Failures
from ..process.timers import Timer
from ..streams.names import name_key
from ..streams.registry import StreamObserver
from ..streams.relay import VoiceRelay
from ..streams.rooms import Room
from ..streams.stream import Stream
from ..streams.track import OpusTrack
from .client import Client

logger = logging.getLogger(__name__)

SILENCE_AFTER_S = 0.3
"""After this long without audio, and as often again, subscribers get SILENCE: longer than usual gaps between packets on
Wi-Fi, shorter than a meter may stand still without looking wrong."""


class PcmBlock(Protocol):
    @property
    def samples(self) -> Samples: ...


class PcmSource(Protocol):
    """A stream's PCM, decoded for whoever is attached."""

    def attach(self, sink: Meter) -> None: ...
    def detach(self, sink: Meter) -> None: ...


class AudioData(msgspec.Struct, tag="audio_data"):
    """The `audio_data` message of the signalling protocol."""

    stream_id: str
    timestamp: float
    """Unix seconds."""
    level: float
    peak: float
    spectrum: list[float]


class Meter:
    """One stream's `audio_data`: analysed once, serialised once, and given to every subscriber.

    It is attached to the PCM while somebody subscribes, and only then. When no PCM comes, as while the sender pauses,
    subscribers get SILENCE, so that their meters fall; the end of the stream gives one last SILENCE, and no subscriber
    is left. Runs on the event loop's thread.
    """

    def __init__(self, stream_id: str, source: PcmSource, failures: Failures | None = None) -> None:
        self.stream_id = stream_id
        self._source = source
        self._subscribers: tuple[Callable[[str], None], ...] = ()
        self._analyser = Analyser()
        self._heard_s = 0.0
        self._failures = Failures() if failures is None else failures
        self._silence_timer: Timer | None = None
        """There while somebody subscribes: it knows the meter, and neither would be freed at once."""

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    def subscribe(self, send: Callable[[str], None]) -> None:
        """Calls `send` with the text of every message from now on; it must not block, and may replace a message that
        it was given before and that has not left yet. Twice is as once."""
        if send in self._subscribers:
            return
        self._subscribers = (*self._subscribers, send)
        if len(self._subscribers) == 1:
            self._start()

    def unsubscribe(self, send: Callable[[str], None]) -> None:
        """Calls `send` no more; safe within its own call, and when it never subscribed."""
        if send not in self._subscribers:
            return
        self._subscribers = tuple(other for other in self._subscribers if other != send)
        if not self._subscribers:
            self._stop()

    def on_pcm(self, block: PcmBlock) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        analysis = self._analyser.feed(block.samples)
        if analysis is not None:
            self._send(analysis)

    def on_end(self) -> None:
        self._send(SILENCE)
        self._subscribers = ()
        self._stop()

    def _start(self) -> None:
        self._analyser.clear()
        self._heard_s = asyncio.get_running_loop().time()
        self._silence_timer = Timer("meter-silence", self._notice_silence, self._failures)
        self._silence_timer.set(self._heard_s + SILENCE_AFTER_S)
        self._source.attach(self)

    def _stop(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        self._source.detach(self)

    def _notice_silence(self) -> None:
        assert self._silence_timer is not None
        now_s = asyncio.get_running_loop().time()
        silent_at_s = self._heard_s + SILENCE_AFTER_S
        if silent_at_s > now_s:
            self._silence_timer.set(silent_at_s)
            return
        self._silence_timer.set(now_s + SILENCE_AFTER_S)
        self._analyser.clear()
        self._send(SILENCE)

    def _send(self, analysis: Analysis) -> None:
        text = msgspec.json.encode(AudioData(self.stream_id, round(time.time(), 3), *analysis)).decode()
        for send in self._subscribers:
            try:
                send(text)
            except Exception:
                logger.exception("A subscriber of the meter of %s failed, and gets no more", self.stream_id)
                self.unsubscribe(send)


class Meters(StreamObserver):
    """The meters of all streams that somebody watches, one for each."""

    def __init__(self, relay: VoiceRelay, failures: Failures) -> None:
        self._relay = relay
        self._failures = failures
        self._meters: dict[Stream, Meter] = {}
        self._clients: dict[Stream, set[Client]] = {}

    def subscribe(self, client: Client, stream: Stream) -> None:
        """Sends the client the stream's `audio_data` until it unsubscribes or the stream ends. Twice is as once."""
        if stream.id in client.meters:
            return
        meter = self._meters.get(stream)
        if meter is None:
            meter = self._meters[stream] = Meter(stream.id, self._relay.pcm(stream.track), self._failures)
            stream.consumers.add(meter)
        send = client.meters[stream.id] = functools.partial(client.ws.send_latest, stream.id)
        self._clients.setdefault(stream, set()).add(client)
        meter.subscribe(send)

    def subscribe_room(self, client: Client, room: Room, track: OpusTrack) -> None:
        """The same for what the client hears in the room that it stands in, on that track: without its own voice."""
        watched = next((stream for stream in self._meters if stream.track is track), None)
        if watched is None:
            watched = Stream(room.id, room.name, track, client.id)
        if client not in self._clients.get(watched, ()):
            self.unsubscribe(client, room.id)
        self.subscribe(client, watched)

    def unsubscribe(self, client: Client, stream_id: str | None = None) -> None:
        """From one stream, or from all; safe for one that was not subscribed to."""
        key = None if stream_id is None else name_key(stream_id)
        for stream in [stream for stream in self._meters if key in (None, stream.key)]:
            if (send := client.meters.pop(stream.id, None)) is None:
                continue
            meter = self._meters[stream]
            self._clients[stream].discard(client)
            meter.unsubscribe(send)
            if not meter.subscribers:
                self._forget(stream)
                stream.last_activity = time.monotonic()

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        for client in self._clients.get(stream, ()):
            client.meters.pop(stream.id, None)
        if stream in self._meters:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        stream.consumers.discard(self._meters.pop(stream))
        del self._clients[stream]
