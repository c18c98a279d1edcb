"""One muxing of Opus in Ogg and its listeners: of one stream, or of whatever stream is the newest."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..media.ogg import LIVE_PRE_SKIP, OggFormat, OggMuxer
from ..media.opus import CLOCK_RATE_HZ, MOST_PACKET_TICKS, OpusPacket
from ..media.opus_line import OpusLineCounters
from ..process.failures import Failures
from ..settings.model import AudioSettings
from ..streams.grants import EVERYTHING, Grant
from ..streams.relay import VoiceRelay
from ..streams.stream import Stream
from .backlog import BURST_ALLOWANCE_S, MOST_LATE_S, BacklogLimits
from .listeners import Chunk, Listener, ListenerCounters
from .requests import MOST_BURST_S

LEAST_BYTES_PER_S = 6000
"""48 kbit/s, what browsers send on request: VLC reads blocks of 8,500 bytes (3.0, modules/demux/oggseek.h) and Chromium
of 32,768, whose last sound is late by what a block takes. Silence, and voices at a low bit rate, would take far longer
for one. It is 3/8 of the usual MP3."""

LEAST_HEADER_BYTES = 2048
"""FFmpeg, mpv and ffplay with it, begins when it has as many (libavformat/format.c, PROBE_BUF_MIN)."""

_MOST_PAST_TICKS = round((MOST_BURST_S + BURST_ALLOWANCE_S) * CLOCK_RATE_HZ)


@dataclass
class OggCounters(OpusLineCounters, ListenerCounters):
    """Counters since the start, over all channels and listeners; `dropped_frames` are ticks of CLOCK_RATE_HZ."""


class _Page(NamedTuple):
    begin: int
    """Granule position."""
    data: bytes


class OggContext:
    """What all channels share."""

    def __init__(
        self,
        settings: AudioSettings,
        bitrate_bps: int,
        relay: VoiceRelay,
        now_s: Callable[[], float],
        failures: Failures,
    ) -> None:
        self.page_s = settings.ogg_page_ms / 1000
        self.burst_s = settings.burst_ms / 1000
        self.max_backlog_s = settings.max_backlog_s
        self.bytes_per_s = bitrate_bps / 8
        self.patience = max(MOST_PACKET_TICKS, settings.jitter_ms * CLOCK_RATE_HZ // 1000)
        self.relay = relay
        self.now_s = now_s
        self.failures = failures
        self.counters = OggCounters()


class OggChannel:
    """A logical Ogg stream in real time, whose pages go to all of its listeners, and its listeners.

    It is a sink of the stream that it is turned to, and silent while that is none. One that `ends` ends with the first
    stream that it is turned to; another goes on, for everybody with the same grant.
    """

    def __init__(self, context: OggContext, *, ends: bool, grant: Grant = EVERYTHING, title: str) -> None:
        """It has a past of silence: a player needs that to start."""
        self.listeners: dict[Listener, float] = {}
        """And when each joined."""
        self.stream: Stream | None = None
        self.ends = ends
        self.grant = grant
        self.has_ended = False
        self.changed_s = context.now_s()
        """When the stream changed last."""
        self.idle_since_s: float | None = context.now_s()
        self._context = context
        self._counted = 0
        """Listeners that its stream counts of it."""
        chosen = OggFormat(random.getrandbits(32), LIVE_PRE_SKIP, LEAST_BYTES_PER_S, LEAST_HEADER_BYTES)
        self._muxer = OggMuxer(chosen, context.counters, patience=context.patience, tags={"TITLE": title})
        self._past: deque[_Page] = deque()
        self._limits: dict[float, BacklogLimits] = {}
        """By the seconds of the past that unsent pages may be of."""
        self._begun_s = context.now_s() - MOST_BURST_S
        """When position 0 was live."""
        self._fill_past()

    @property
    def headers(self) -> bytes:
        return self._muxer.headers

    def serves(self, listener: Listener, stream: Stream | None) -> bool:
        """Whether the listener, which asks for that stream or with None for the next, is to be on this channel."""
        if self.has_ended or self.ends is listener.follows:
            return False
        if self.ends and stream is not None:
            return self.stream is stream
        return self.grant == listener.grant and (not self.ends or self.stream is None)

    def turn_to(self, stream: Stream | None) -> None:
        """From the stream's next packet on, the one that is being handed out included."""
        if stream is self.stream:
            return
        self._uncount()
        if self.stream is not None:
            self._context.relay.detach(self.stream.track, self)
        self.stream = stream
        self.changed_s = self._context.now_s()
        self._muxer.begin_timeline()
        if stream is not None:
            self.count()
            self._context.relay.attach(stream.track, self)

    def count(self) -> None:
        """To be called when `listeners` has changed."""
        if self.listeners:
            self.idle_since_s = None
        elif self.idle_since_s is None:
            self.idle_since_s = self._context.now_s()
        if self.stream is not None:
            self.stream.listeners += len(self.listeners) - self._counted
            self.stream.last_activity = time.monotonic()
            self._counted = len(self.listeners)

    def _uncount(self) -> None:
        if self.stream is not None:
            self.stream.listeners -= self._counted
            self.stream.last_activity = time.monotonic()
        self._counted = 0

    def on_packet(self, packet: OpusPacket) -> None:
        with self._context.failures.guard("ogg-muxer"):
            self._muxer.push(packet, self._due(packet.arrived_s))

    def on_end(self) -> None:
        if self.ends:
            self.has_ended = True

    def take(self) -> Chunk | None:
        """What has become due, for all listeners; the last pages, if it has ended."""
        self._muxer.advance(self._due(self._context.now_s()))
        begin = self._muxer.position - self._muxer.buffered_ticks
        data = self._muxer.finish() if self.has_ended else self._muxer.pages()
        if not data:
            return None
        self._keep(_Page(begin, data))
        return Chunk(data, "", range(begin, self._muxer.position))

    def admit(self, listener: Listener, burst_s: float) -> bytes:
        """Adds a listener. Gives what it is to be sent at once: headers, and pages of the past."""
        wanted = self._due(self._context.now_s()) - burst_s * CLOCK_RATE_HZ
        pages = [page for page in self._past if page.begin >= wanted]
        listener.begin(pages[0].begin if pages else self._muxer.position, self._limits_for(burst_s))
        self.listeners[listener] = self._context.now_s()
        self.count()
        return self.headers + b"".join(page.data for page in pages)

    def behind_s(self, listener: Listener, played_s: float) -> float:
        """How long ago it was live what the listener plays after so many seconds."""
        position = listener.sent.frame_at(played_s * CLOCK_RATE_HZ + LIVE_PRE_SKIP)
        return self._context.now_s() - self._begun_s - position / CLOCK_RATE_HZ

    def stand_still(self, seconds: float) -> None:
        """So much time did not pass for the listeners: the process stood still, and their players ran out of sound."""
        self._begun_s += seconds

    def _due(self, at_s: float) -> float:
        return (at_s - self._begun_s) * CLOCK_RATE_HZ

    def _fill_past(self) -> None:
        page_ticks = round(self._context.page_s * CLOCK_RATE_HZ)
        for position in range(page_ticks, round(MOST_BURST_S * CLOCK_RATE_HZ) + 1, page_ticks):
            begin = self._muxer.position
            self._muxer.advance(position + self._context.patience)
            self._keep(_Page(begin, self._muxer.pages()))

    def _keep(self, page: _Page) -> None:
        self._past.append(page)
        while self._past[0].begin < self._muxer.position - _MOST_PAST_TICKS:
            self._past.popleft()
        for late_s, limits in self._limits.items():
            limits.most_unsent_bytes, limits.chunk_bytes = self._bytes_of(late_s), len(page.data)

    def _limits_for(self, burst_s: float) -> BacklogLimits:
        """Shared by all listeners with the same, and kept true to the bit rate, which changes: unsent are the newest
        pages, so that more bytes than these have shows how late a listener is."""
        late_s = max(MOST_LATE_S, math.ceil(burst_s + BURST_ALLOWANCE_S))
        if late_s not in self._limits:
            limits = BacklogLimits.of(
                bytes_per_s=self._context.bytes_per_s,
                chunk_s=self._context.page_s,
                burst_s=burst_s,
                max_backlog_s=self._context.max_backlog_s,
            )
            limits.most_unsent_bytes = self._bytes_of(late_s)
            self._limits[late_s] = limits
        return self._limits[late_s]

    def _bytes_of(self, seconds: float) -> int:
        """Of the newest pages."""
        begin = self._muxer.position - seconds * CLOCK_RATE_HZ
        return sum(len(page.data) for page in self._past if page.begin >= begin)
