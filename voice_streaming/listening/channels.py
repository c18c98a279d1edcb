"""Channels of the live MP3, each a stream or silence, and the listeners on each. All channels follow one clock."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Iterable

from ..media.opus import CLOCK_RATE_HZ
from ..media.pcm import PcmCounters
from ..process.failures import Failures
from ..process.timers import RETRY_S, Timer
from ..process.turns import Turns
from ..settings.model import AudioSettings
from ..streams.grants import Grant
from ..streams.registry import StreamObserver
from ..streams.relay import VoiceRelay
from ..streams.stream import Stream, newest
from .backlog import BacklogLimits
from .listeners import Chunk, Delivery, Listener
from .mp3 import EncodingContext, Mp3Counters, Programme
from .requests import MOST_BURST_S

logger = logging.getLogger(__name__)

MOST_BEHIND_S = 1.0
"""The most audio that is sent late. When the process stood still for longer, players have run out of audio, and what
they missed is skipped."""


class Channel:
    """A source of MP3 frames and its listeners. This base class is silence."""

    def __init__(self, context: EncodingContext) -> None:
        self.listeners: dict[Listener, None] = {}
        self._context = context

    @property
    def title(self) -> str:
        return ""

    def take(self, count: int) -> list[bytes]:
        """The next frames."""
        return self._context.silent.take(count)

    def past(self, count: int) -> list[bytes]:
        """The last `count` frames that were taken, for a new listener."""
        return self._context.silent.take(count)

    def note_audience(self, now_s: float) -> None:
        """To be called when `listeners` has changed."""


class StreamChannel(Channel):
    """A stream's MP3."""

    def __init__(self, context: EncodingContext, programme: Programme, stream: Stream, past_frames: int) -> None:
        super().__init__(context)
        self.programme = programme
        self.stream = stream
        self.idle_since_s: float | None = None
        self._counted = 0
        """Listeners that the stream counts of this channel."""
        # Silence for the time before the encoder started: a player needs that many bytes to start.
        self._past = deque(context.silent.take(past_frames), maxlen=past_frames)

    @property
    def title(self) -> str:
        return self.stream.name

    def take(self, count: int) -> list[bytes]:
        frames = self.programme.take(count)
        self._past.extend(frames)
        if self.listeners:
            self.stream.last_activity = time.monotonic()
        return frames

    def past(self, count: int) -> list[bytes]:
        return list(self._past)[-count:]

    def note_audience(self, now_s: float) -> None:
        self.stream.listeners += len(self.listeners) - self._counted
        self._counted = len(self.listeners)
        self.stream.last_activity = time.monotonic()
        self.idle_since_s = None if self.listeners else now_s


class Channels(StreamObserver):
    """Moves listeners between channels and gives them their frames, every `chunk_ms` the same bytes to all of one.

    All channels are at the same frame of the same clock at any time, so that a listener can be moved between any two
    writes, and neither misses a frame nor gets one too many. What fails in one
    channel is noted in `failures`, and the clock goes on.
    """

    def __init__(
        self, settings: AudioSettings, relay: VoiceRelay, streams: dict[str, Stream], failures: Failures | None = None
    ) -> None:
        """To be made with a running loop."""
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._relay = relay
        self._streams = streams
        self._context = EncodingContext(settings, self._loop.time)
        mp3 = self._context.mp3
        self._chunk_frames = max(1, mp3.frames_in(settings.chunk_ms))
        self._burst_frames = mp3.frames_in(settings.burst_ms)
        self._most_behind_frames = self._chunk_frames + max(self._burst_frames, mp3.frames_in(MOST_BEHIND_S * 1000))
        self._failures = Failures() if failures is None else failures
        self._turns = Turns("mp3-turns", self._failures)
        self._delivery = Delivery(self._turns, self.counters, self._loop.time, self._failures)
        self._silence = Channel(self._context)
        self._channels: dict[Stream, StreamChannel] = {}
        self._channel_of: dict[Listener, Channel] = {}
        self._silent_since_s: dict[Listener, float] = {}
        self._next_frame = 0
        self._is_running = False
        self._timer = Timer("mp3-clock", self._tick, self._failures)

    @property
    def counters(self) -> Mp3Counters:
        return self._context.counters

    @property
    def frame_s(self) -> float:
        """An MP3 frame's duration."""
        return self._context.mp3.frame_s

    @property
    def listeners(self) -> int:
        return len(self._channel_of)

    @property
    def encoders(self) -> int:
        """Streams that are being encoded now."""
        return len(self._channels)

    def figures(self, pcm: PcmCounters) -> dict[str, float]:
        """By the names they have in `/metrics`; `pcm` counts what all decoders did."""
        counters = self.counters
        return {
            "mp3_listeners": self.listeners,
            "mp3_encoders": self.encoders,
            "mp3_listeners_total": counters.listeners_total,
            "mp3_sent_bytes_total": counters.bytes_sent,
            "mp3_slow_listeners_disconnected_total": counters.disconnected_slow,
            "mp3_slow_listeners_brought_back_total": counters.brought_back,
            "mp3_slow_listeners_dropped_seconds_total": round(counters.dropped_frames * self.frame_s, 3),
            "mp3_encoder_cpu_seconds_total": round(counters.encoder_s, 3),
            "mp3_encoded_seconds_total": round(counters.encoded_audio_s, 3),
            "mp3_silence_seconds_total": round(counters.silence_samples / CLOCK_RATE_HZ, 3),
            "mp3_concealed_packets_total": pcm.concealed_packets,
            "mp3_late_packets_total": pcm.late_packets + counters.late_blocks,
            "mp3_broken_packets_total": pcm.broken_packets,
        }

    def silent_bytes(self, count: int) -> bytes:
        """The first bytes of a silent frame."""
        return self._context.silent.take(1)[0][:count]

    def join(self, listener: Listener, stream: Stream | None, burst_s: float | None = None) -> None:
        """Adds a listener to a stream, or with None to silence, and sends it the latest past at once.

        `burst_s`, MOST_BURST_S at most, is how much of it; None is what the settings say.
        """
        self._run()
        burst_s = self._settings.burst_ms / 1000 if burst_s is None else burst_s
        channel = self._channel(stream)
        wanted = self._next_frame - math.ceil(self._context.clock.now() - self._context.mp3.frames_in(burst_s * 1000))
        past = channel.past(wanted) if wanted > 0 else []
        listener.begin(self._next_frame - len(past), self._backlog_limits(burst_s))
        self._assign(listener, channel)
        self.counters.listeners_total += 1
        if past:
            self.counters.bytes_sent += listener.write(b"".join(past), channel.title)

    def behind_s(self, listener: Listener, played_s: float) -> float:
        """How long ago it was live what the listener plays after so many seconds of what it was sent."""
        frame = listener.sent.frame_at(played_s / self._context.mp3.frame_s)
        return self._loop.time() - self._context.clock.time_of(frame)

    def leave(self, listener: Listener) -> None:
        """Removes a listener; safe when it is not there any more."""
        channel = self._channel_of.pop(listener, None)
        self._silent_since_s.pop(listener, None)
        if channel is not None:
            channel.listeners.pop(listener, None)
            channel.note_audience(self._loop.time())

    def on_stream_live(self, stream: Stream) -> None:
        """A stream for everyone has started: whoever waits or follows hears it from the next frame on."""
        if stream.rooms:
            return
        followers = [
            listener
            for listener, channel in self._channel_of.items()
            if (listener.follows or channel is self._silence) and listener.grant.covers(stream.id)
        ]
        if followers:
            self._move(followers, self._channel(stream))

    def close(self) -> None:
        """Lets every listener go and stops every encoder."""
        self._stop()
        for channel in self._channels.values():
            channel.programme.stop()
        self._channels.clear()
        for listener in self._channel_of:
            listener.finish()

    def newest_stream(self, grant: Grant) -> Stream | None:
        """The stream that `latest.mp3` plays with this grant."""
        unended = {key: stream for key, stream in self._streams.items() if stream.track.readyState == "live"}
        return newest(unended, grant)

    def _channel(self, stream: Stream | None) -> Channel:
        """The stream's channel, opened if there is none yet."""
        if stream is None:
            return self._silence
        channel = self._channels.get(stream)
        if channel is None:
            programme = Programme(self._context, self._relay, stream.track, self._next_frame)
            past_frames = self._context.mp3.frames_in(MOST_BURST_S * 1000) + self._chunk_frames
            channel = self._channels[stream] = StreamChannel(self._context, programme, stream, past_frames)
            logger.info("Encoding stream %s as MP3", stream.id)
        return channel

    def _backlog_limits(self, burst_s: float) -> BacklogLimits:
        mp3 = self._context.mp3
        return BacklogLimits.of(
            bytes_per_s=mp3.bytes_per_s,
            chunk_s=self._chunk_frames * mp3.frame_s,
            burst_s=burst_s,
            max_backlog_s=self._settings.max_backlog_s,
        )

    def _assign(self, listener: Listener, channel: Channel) -> None:
        channel.listeners[listener] = None
        self._channel_of[listener] = channel
        if channel is self._silence:
            self._silent_since_s[listener] = self._loop.time()
        else:
            self._silent_since_s.pop(listener, None)
        channel.note_audience(self._loop.time())

    def _move(self, listeners: Iterable[Listener], channel: Channel) -> None:
        for listener in listeners:
            before = self._channel_of[listener]
            if before is channel:
                continue
            before.listeners.pop(listener, None)
            self._assign(listener, channel)
            before.note_audience(self._loop.time())

    def _run(self) -> None:
        """Starts the clock if it stands."""
        if not self._is_running:
            self._is_running = True
            self._next_frame = int(self._context.clock.now())
            self._wait()

    def _stop(self) -> None:
        self._is_running = False
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer.set(self._context.clock.time_of(self._next_frame + self._chunk_frames))

    def _tick(self) -> None:
        """A chunk is due, or several at once if the process was held up."""
        # Set anew when the chunk has been handed out; this is for one that a failure keeps from it.
        self._timer.set(self._loop.time() + RETRY_S)
        first_frame = self._next_frame
        count = max(first_frame + self._chunk_frames, int(self._context.clock.now())) - first_frame
        self._prepare(first_frame, count, [channel.programme for channel in self._channels.values()])

    def _prepare(self, first_frame: int, count: int, programmes: list[Programme]) -> None:
        """A piece of the work in each turn of the event loop; then the chunk is handed out."""
        if not self._is_running or first_frame != self._next_frame:
            return
        while programmes and not self._prepare_piece(programmes[-1], count):
            programmes.pop()
        if programmes:
            self._turns.add(functools.partial(self._prepare, first_frame, count, programmes))
            return
        try:
            self._close_what_is_over()
            self._hand_out(count)
        finally:
            self._next_frame = first_frame + count
            if self._channel_of or self._channels:
                self._wait()
            else:
                self._stop()

    def _prepare_piece(self, programme: Programme, count: int) -> bool:
        """See `Programme.prepare`; False as well if it fails."""
        with self._failures.guard("mp3-programme"):
            return programme.prepare(count)
        return False

    def _hand_out(self, count: int) -> None:
        begin, end = self._next_frame, self._next_frame + count
        first = max(begin, end - self._most_behind_frames)
        for channel in (*self._channels.values(), self._silence):
            with self._failures.guard("mp3-channel"):
                self._hand_out_of(channel, begin, first, end)
        self._end_long_silence()

    def _hand_out_of(self, channel: Channel, begin: int, first: int, end: int) -> None:
        """The channel's frames from `begin` to `end`, of which listeners get those from `first` on."""
        frames = channel.take(end - begin)[first - begin :]
        if not channel.listeners:
            return
        listeners = tuple(channel.listeners)
        if first > begin:
            self._delivery.skip(listeners, range(begin, first))
        self._delivery.deliver(listeners, Chunk(b"".join(frames), channel.title, range(first, end)))

    def _close_what_is_over(self) -> None:
        """Closes channels whose stream has ended, or that have had no listener for `encoder_linger_s`."""
        idle_before_s = self._loop.time() - self._settings.encoder_linger_s
        for channel in list(self._channels.values()):
            is_idle = channel.idle_since_s is not None and channel.idle_since_s <= idle_before_s
            if channel.programme.is_over or is_idle:
                with self._failures.guard("mp3-channel-end"):
                    self._close(channel, "no listeners" if is_idle else "it has ended")

    def _close(self, channel: StreamChannel, reason: str) -> None:
        del self._channels[channel.stream]
        channel.programme.stop()
        logger.info("Stopped encoding stream %s: %s", channel.stream.id, reason)
        followers = [listener for listener in channel.listeners if listener.follows]
        others = [listener for listener in channel.listeners if not listener.follows]
        for listener in followers:
            self._move([listener], self._channel(self.newest_stream(listener.grant)))
        for listener in others:
            # After what was handed out to it before.
            self._turns.add(listener.finish)

    def _end_long_silence(self) -> None:
        longest_s = self._settings.max_silence_s
        if longest_s:
            before_s = self._loop.time() - longest_s
            for listener, since_s in self._silent_since_s.items():
                if since_s <= before_s:
                    self._turns.add(listener.finish)
