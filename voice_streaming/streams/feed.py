"""Feeds: one track each, on which whatever stream is selected is heard, without a break in its numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..media.opus import OpusPacket
from .grants import EVERYTHING, Grant
from .names import name_key
from .registry import StreamObserver
from .relay import VoiceRelay
from .source import Source
from .stream import Stream, find, live_streams
from .track import OpusTrack


@dataclass(frozen=True)
class Selection:
    """Which stream is to be heard: that of a name whenever it is live, or else the newest."""

    stream_id: str | None = None
    """None is the newest."""
    grant: Grant = EVERYTHING
    excluded: frozenset[str] = frozenset()
    """Keys (`name_key`) of streams that are not to be heard."""

    def select(self, streams: Mapping[str, Stream]) -> Stream | None:
        """The stream to be heard now, or None."""
        if self.stream_id is not None:
            stream = find(streams, self.stream_id)
            is_heard = stream is not None and stream.is_live and self._allows(stream)
            return stream if is_heard else None
        allowed = (stream for stream in reversed(live_streams(streams)) if self._allows(stream))
        return next(allowed, None)

    def _allows(self, stream: Stream) -> bool:
        return self.grant.covers(stream.id) and stream.key not in self.excluded


class Follower(Protocol):
    """Who takes a feed."""

    @property
    def id(self) -> str: ...

    def on_fed(self, stream: Stream | None) -> None:
        """Another stream is on the feed now, or none."""


class Feed:
    """What the followers of one selection hear. A change of stream begins an epoch of the track's timeline."""

    def __init__(self, relay: VoiceRelay, selection: Selection) -> None:
        """For `Feeds.join`."""
        self.track = OpusTrack()
        self.stream: Stream | None = None
        self.selection = selection
        self.followers: dict[str, Follower] = {}
        """By their ids."""
        self._relay = relay
        self._source: Source | None = None

    def turn_to(self, stream: Stream | None) -> None:
        """Lets the followers hear that stream from its next packet on, the one that is being handed out included."""
        before, self.stream = self.stream, stream
        if before is not None:
            self._relay.detach(before.track, self)
            before.receivers.difference_update(self.followers)
            before.last_activity = time.monotonic()
        if stream is not None:
            stream.receivers.update(self.followers)
            self._source = self.track.take_source()
            self._relay.attach(stream.track, self)

    def on_packet(self, packet: OpusPacket) -> None:
        assert self._source is not None
        sequence, timestamp = packet.sequence & 0xFFFF, packet.timestamp & 0xFFFF_FFFF
        self._source.publish(0, sequence, timestamp, packet.marker, packet.payload, packet.arrived_s)

    def on_end(self) -> None:
        """A no-op: the registry tells."""


class Feeds(StreamObserver):
    """One feed for each selection that somebody follows."""

    def __init__(self, relay: VoiceRelay, streams: Mapping[str, Stream]) -> None:
        self.waiting: set[str] = set()
        """Ids of the followers that are fed nothing now: no stream counts these as its receivers."""
        self._relay = relay
        self._streams = streams
        self._feeds: dict[Selection, Feed] = {}

    def join(self, selection: Selection, follower: Follower) -> Feed:
        """The selection's feed, which the follower takes until `leave`. It is told of changes alone."""
        if selection.stream_id is not None:
            # One feed for all ways to write a name.
            selection = Selection(name_key(selection.stream_id), selection.grant, selection.excluded)
        feed = self._feeds.get(selection)
        if feed is None:
            feed = self._feeds[selection] = Feed(self._relay, selection)
            feed.turn_to(selection.select(self._streams))
        feed.followers[follower.id] = follower
        self._count(feed)
        return feed

    def leave(self, feed: Feed, follower: Follower) -> None:
        """Safe to call twice."""
        if feed.followers.pop(follower.id, None) is None:
            return
        self.waiting.discard(follower.id)
        if feed.stream is not None:
            feed.stream.receivers.discard(follower.id)
            feed.stream.last_activity = time.monotonic()
        if not feed.followers:
            feed.turn_to(None)
            feed.track.stop()
            del self._feeds[feed.selection]

    def on_stream_live(self, stream: Stream) -> None:
        self._select()

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self._select()

    def _select(self) -> None:
        for feed in list(self._feeds.values()):
            stream = feed.selection.select(self._streams)
            if stream is feed.stream:
                continue
            feed.turn_to(stream)
            self._count(feed)
            for follower in list(feed.followers.values()):
                follower.on_fed(stream)

    def _count(self, feed: Feed) -> None:
        if feed.stream is None:
            self.waiting.update(feed.followers)
        else:
            self.waiting.difference_update(feed.followers)
            feed.stream.receivers.update(feed.followers)
