"""Opus in Ogg over HTTP: which channel a listener is on, and the clock of all channels."""

from __future__ import annotations

import asyncio
import functools
import logging

from ..media.opus import CLOCK_RATE_HZ
from ..process.failures import Failures
from ..process.timers import Timer
from ..process.turns import Turns
from ..settings.model import AudioSettings
from ..streams.registry import StreamObserver
from ..streams.relay import VoiceRelay
from ..streams.stream import Stream, newest
from .answers import RADIO_NAME
from .channels import MOST_BEHIND_S
from .listeners import Delivery, Listener
from .ogg import OggChannel, OggContext, OggCounters

logger = logging.getLogger(__name__)


class OggChannels(StreamObserver):
    """Gives listeners the pages of their channel, every `ogg_page_ms` the same bytes to all of one.

    There is a channel for each stream that somebody listens to, which ends with it, and one for each grant with which
    somebody listens to the newest stream, which goes on as one logical Ogg stream: browsers stop at the first end of
    one. What fails in one channel is noted in `failures`, and the others go on.
    """

    def __init__(
        self,
        settings: AudioSettings,
        bitrate_bps: int,
        relay: VoiceRelay,
        streams: dict[str, Stream],
        failures: Failures | None = None,
    ) -> None:
        """To be made with a running loop. `bitrate_bps` is what senders are asked for."""
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._streams = streams
        self._failures = Failures() if failures is None else failures
        self._context = OggContext(settings, bitrate_bps, relay, self._loop.time, self._failures)
        self._turns = Turns("ogg-turns", self._failures)
        self._delivery = Delivery(self._turns, self.counters, self._loop.time, self._failures, "ogg-listener")
        self._channels: list[OggChannel] = []
        self._channel_of: dict[Listener, OggChannel] = {}
        self._next_s = 0.0
        self._timer = Timer("ogg-clock", self._tick, self._failures)

    @property
    def counters(self) -> OggCounters:
        return self._context.counters

    @property
    def listeners(self) -> int:
        return len(self._channel_of)

    def figures(self) -> dict[str, float]:
        """By the names they have in `/metrics`."""
        counters = self.counters
        return {
            "ogg_listeners": self.listeners,
            "ogg_muxers": self.muxers,
            "ogg_listeners_total": counters.listeners_total,
            "ogg_sent_bytes_total": counters.bytes_sent,
            "ogg_slow_listeners_disconnected_total": counters.disconnected_slow,
            "ogg_slow_listeners_brought_back_total": counters.brought_back,
            "ogg_slow_listeners_dropped_seconds_total": round(counters.dropped_frames / CLOCK_RATE_HZ, 3),
            "ogg_silence_seconds_total": round(counters.silence_ticks / CLOCK_RATE_HZ, 3),
            "ogg_late_packets_total": counters.late_packets,
            "ogg_early_packets_total": counters.early_packets,
            "ogg_broken_packets_total": counters.broken_packets,
            "ogg_left_out_packets_total": counters.left_out_packets,
        }

    @property
    def muxers(self) -> int:
        """Channels that are at work now."""
        return len(self._channels)

    def join(self, listener: Listener, stream: Stream | None, burst_s: float | None = None) -> None:
        """Adds a listener and sends it the latest past at once.

        One that follows gets the newest stream that its grant covers, then the next, and silence in between; another
        gets `stream`, or with None the next one, to its end. `burst_s`, MOST_BURST_S at most, is how much of the past;
        None is what the settings say.
        """
        channel = self._channel(listener, stream)
        self._channel_of[listener] = channel
        self.counters.listeners_total += 1
        data = channel.admit(listener, self._context.burst_s if burst_s is None else burst_s)
        self.counters.bytes_sent += listener.write(data, "")

    def behind_s(self, listener: Listener, played_s: float) -> float:
        """How long ago it was live what the listener plays after so many seconds of what it was sent."""
        return self._channel_of[listener].behind_s(listener, played_s)

    def leave(self, listener: Listener) -> None:
        """Removes a listener; safe when it is not there any more."""
        channel = self._channel_of.pop(listener, None)
        if channel is not None:
            channel.listeners.pop(listener, None)
            channel.count()

    def on_stream_live(self, stream: Stream) -> None:
        """One for everyone: whoever waits or follows hears it from its first packet on."""
        if stream.rooms:
            return
        for channel in self._channels:
            if (channel.stream is None or not channel.ends) and channel.grant.covers(stream.id):
                channel.turn_to(stream)

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        for channel in self._channels:
            if channel.stream is stream and not channel.ends:
                channel.turn_to(newest(self._streams, channel.grant))

    def close(self) -> None:
        """Lets every listener go, and ends all muxing."""
        self._timer.cancel()
        for channel in self._channels:
            channel.turn_to(None)
        self._channels.clear()
        for listener in self._channel_of:
            listener.finish()

    def _channel(self, listener: Listener, stream: Stream | None) -> OggChannel:
        """The one that the listener is to be on, begun if there is none yet."""
        ends = not listener.follows
        for channel in self._channels:
            if channel.serves(listener, stream):
                return channel
        title = stream.name if ends and stream is not None else RADIO_NAME
        channel = OggChannel(self._context, ends=ends, grant=listener.grant, title=title)
        channel.turn_to(stream if ends else newest(self._streams, listener.grant))
        if not self._channels:
            self._next_s = self._loop.time()
            self._wait()
        self._channels.append(channel)
        return channel

    def _wait(self) -> None:
        self._next_s += self._context.page_s
        self._timer.set(self._next_s)

    def _tick(self) -> None:
        """A page is due."""
        late_s = self._loop.time() - self._next_s
        if late_s > MOST_BEHIND_S:
            self._next_s += late_s
            for channel in self._channels:
                channel.stand_still(late_s)
        self._wait()
        for channel in self._channels:
            self._turns.add(functools.partial(self._hand_out, channel))
        self._turns.add(self._close_what_is_over)

    def _hand_out(self, channel: OggChannel) -> None:
        if channel not in self._channels:
            # Closed since the tick.
            return
        with self._failures.guard("ogg-channel"):
            chunk = channel.take()
            if chunk is not None and channel.listeners:
                self._delivery.deliver(tuple(channel.listeners), chunk)

    def _close_what_is_over(self) -> None:
        """Channels whose stream has ended, or that had no listener for `encoder_linger_s`, and listeners that had
        nothing but silence for `max_silence_s`."""
        now_s = self._loop.time()
        for channel in list(self._channels):
            idle_s = 0.0 if channel.idle_since_s is None else now_s - channel.idle_since_s
            if channel.has_ended or (not channel.listeners and idle_s >= self._settings.encoder_linger_s):
                self._channels.remove(channel)
                channel.turn_to(None)
                # After what was handed out to it before.
                self._finish(list(channel.listeners))
            elif channel.stream is None and self._settings.max_silence_s:
                before_s = now_s - self._settings.max_silence_s
                if channel.changed_s <= before_s:
                    self._finish([listener for listener, since_s in channel.listeners.items() if since_s <= before_s])
        if not self._channels:
            self._timer.cancel()

    def _finish(self, listeners: list[Listener]) -> None:
        for listener in listeners:
            self._turns.add(listener.finish)
