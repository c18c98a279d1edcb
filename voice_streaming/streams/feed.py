"""Feeds: one track each, on which whatever is selected is heard, without a break in its numbers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..media.opus import OpusPacket
from ..process.failures import Failures
from ..process.timers import Timer
from .grants import EVERYTHING, Grant
from .mixing import Mix, Mixes, TooManyMixes
from .names import name_key
from .registry import StreamObserver
from .relay import VoiceRelay
from .rooms import Room
from .source import Source
from .stream import Stream, find, live_streams, live_voices
from .track import OpusTrack

logger = logging.getLogger(__name__)

SETTLE_INTERVAL_S = 0.02
"""How often it is looked whether a word has been played to its end: once a frame of the mixes."""


@dataclass(frozen=True)
class Selection:
    """What is to be heard: a stream whenever it is live, or all voices of a room, or else the newest for everyone."""

    stream_id: str | None = None
    grant: Grant = EVERYTHING
    excluded: frozenset[str] = frozenset()
    """Keys (`name_key`) of streams that are not to be heard."""
    room: Room | None = None
    quiet: bool = False
    """Only urgent voices are to be heard."""
    own: bool = False
    """Only voices whose senders are with this server: for another server of the cluster."""

    def select(self, streams: Mapping[str, Stream]) -> tuple[Stream, ...]:
        """The voices to be heard now, the newest last."""
        if self.stream_id is not None:
            stream = find(streams, self.stream_id)
            return (stream,) if stream is not None and stream.is_live and self._allows(stream) else ()
        if self.room is not None:
            room = self.room
            return tuple(voice for voice in live_voices(streams) if room.hears(voice) and self._allows(voice))
        return tuple(voice for voice in live_streams(streams) if self._allows(voice))[-1:]

    def _allows(self, stream: Stream) -> bool:
        is_wanted = stream.key not in self.excluded and (stream.urgent or not self.quiet)
        is_wanted = is_wanted and not (self.own and stream.is_remote)
        return is_wanted and stream.may_be_heard_with(self.grant)


class Follower(Protocol):
    """Who takes a feed."""

    @property
    def id(self) -> str: ...

    def on_fed(self, voices: Sequence[Stream]) -> None:
        """Other voices are on the feed now, or none."""


class Feed:
    """What the followers of one selection hear: one voice as it came, or several as one mix.

    A change of what is heard begins an epoch of the track's timeline.
    """

    def __init__(self, relay: VoiceRelay, mixes: Mixes, selection: Selection) -> None:
        """For `Feeds.join`."""
        self.track = OpusTrack()
        self.voices: tuple[Stream, ...] = ()
        self.is_shared = False
        """Whether excluded voices are heard as well, as there are too many different mixes."""
        self._everybody: tuple[Stream, ...] = ()
        """The voices and those that are excluded."""
        self.selection = selection
        self.followers: dict[str, Follower] = {}
        """By their ids."""
        self._relay = relay
        self._mixes = mixes
        self._mix: Mix | None = None
        self._heard: OpusTrack | None = None
        self._source: Source | None = None

    def turn_to(self, streams: Mapping[str, Stream]) -> None:
        """Lets the followers hear what is selected of these, from the next packet on, the one that is being handed out
        included.

        `settle` is to be called afterwards.
        """
        voices = self.selection.select(streams)
        excludes_nobody = replace(self.selection, excluded=frozenset())
        self._everybody = excludes_nobody.select(streams) if self.selection.excluded else voices
        self._count_receivers(voices)

    def _count_receivers(self, voices: tuple[Stream, ...]) -> None:
        """The followers are receivers of these now."""
        before, self.voices = self.voices, voices
        for voice in before:
            if voice not in voices:
                self._leave(voice, *self.followers)
        for voice in voices:
            self._join(voice, *self.followers)

    def _join(self, voice: Stream, *follower_ids: str) -> None:
        """Another server is no receiver: it says itself how many it has."""
        if self.selection.own:
            voice.consumers.update(follower_ids)
        else:
            voice.receivers.update(follower_ids)

    def _leave(self, voice: Stream, *follower_ids: str) -> None:
        taken: set[object] | set[str] = voice.consumers if self.selection.own else voice.receivers
        taken.difference_update(follower_ids)
        voice.last_activity = time.monotonic()

    def settle(self) -> bool:
        """Attaches to what is to be heard now. Whether it is to be called again soon.

        A mix is left, and a voice leaves it, when nothing of a word is still to be played.
        """
        wanted = frozenset(voice.track for voice in self.voices)
        excluded = frozenset(voice.track for voice in self._everybody) - wanted
        unfinished: frozenset[OpusTrack] = frozenset()
        if self._mix is not None:
            words = frozenset(track for track in self._mix.voices if not self._mixes.is_quiet_of(track))
            unfinished = words - excluded
        if len(wanted) > 1 or unfinished:
            self._take_mix(wanted | unfinished)
        elif self._mix is not None:
            self._mixes.release(self._mix)
            self._mix = None
        self.is_shared = self._mix is not None and bool(self._mix.voices & excluded)
        self._attach(self.voices[-1].track if self._mix is None and self.voices else None)
        return bool(unfinished) and (len(wanted) < 2 or not unfinished <= wanted)

    def close(self) -> None:
        """Nobody follows any more."""
        self._count_receivers(())
        if self._mix is not None:
            self._mixes.release(self._mix)
            self._mix = None
        self._attach(None)
        self.track.stop()

    def add(self, follower: Follower) -> None:
        self.followers[follower.id] = follower
        for voice in self.voices:
            self._join(voice, follower.id)

    def remove(self, follower: Follower) -> bool:
        """Whether it was there."""
        if self.followers.pop(follower.id, None) is None:
            return False
        for voice in self.voices:
            self._leave(voice, follower.id)
        return True

    def _take_mix(self, tracks: frozenset[OpusTrack]) -> None:
        """The mix of these; where there are too many different ones, that which whoever only listens hears."""
        try:
            self._mix = self._mixes.take(tracks) if self._mix is None else self._mixes.change(self._mix, tracks)
        except TooManyMixes:
            logger.debug("There are too many different mixes: some talkers are in what they hear")
            before = self._mix
            everybody = tracks | frozenset(voice.track for voice in self._everybody)
            self._mix = self._mixes.take(everybody, after=before, is_shared=True)
            if before is not None:
                self._mixes.release(before)

    def _attach(self, voice: OpusTrack | None) -> None:
        """To the mix, or else to that voice."""
        track = voice if self._mix is None else self._mix.track
        if track is self._heard:
            return
        if self._heard is not None:
            self._relay.detach(self._heard, self)
        self._heard = track
        if track is not None:
            self._source = self.track.take_source()
            self._relay.attach(track, self)

    def on_packet(self, packet: OpusPacket) -> None:
        assert self._source is not None
        sequence, timestamp = packet.sequence & 0xFFFF, packet.timestamp & 0xFFFF_FFFF
        self._source.publish(0, sequence, timestamp, packet.marker, packet.payload, packet.arrived_s)

    def on_end(self) -> None:
        """A no-op: the registry tells."""


class Feeds(StreamObserver):
    """One feed for each selection that somebody follows."""

    def __init__(
        self, relay: VoiceRelay, streams: Mapping[str, Stream], mixes: Mixes, failures: Failures | None = None
    ) -> None:
        self.waiting: set[str] = set()
        """Ids of the followers that are fed nothing now: no stream counts these as its receivers."""
        self._relay = relay
        self._streams = streams
        self._mixes = mixes
        self._feeds: dict[Selection, Feed] = {}
        self._unsettled: dict[Feed, None] = {}
        self._timer = Timer("feeds", self._settle_all, Failures() if failures is None else failures)

    def join(self, selection: Selection, follower: Follower) -> Feed:
        """The selection's feed, which the follower takes until `leave`. It is told of changes alone."""
        if selection.stream_id is not None:
            # One feed for all ways to write a name.
            selection = replace(selection, stream_id=name_key(selection.stream_id))
        feed = self._feeds.get(selection)
        if feed is None:
            feed = self._feeds[selection] = Feed(self._relay, self._mixes, selection)
            feed.turn_to(self._streams)
            self._settle(feed)
        feed.add(follower)
        self._count(feed)
        return feed

    def leave(self, feed: Feed, follower: Follower) -> None:
        """Safe to call twice."""
        if not feed.remove(follower):
            return
        self.waiting.discard(follower.id)
        if not feed.followers:
            feed.close()
            self._unsettled.pop(feed, None)
            del self._feeds[feed.selection]

    def close(self) -> None:
        """Settles nothing any more."""
        self._timer.cancel()

    def on_stream_live(self, stream: Stream) -> None:
        self.select()

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self.select()

    def on_stream_moved(self, stream: Stream) -> None:
        self.select()

    def select(self) -> None:
        """Turns each feed to what its selection means now."""
        for feed in list(self._feeds.values()):
            voices, was_shared = feed.voices, feed.is_shared
            feed.turn_to(self._streams)
            if voices == feed.voices and not was_shared:
                continue
            self._settle(feed)
            self._count(feed)
            for follower in list(feed.followers.values()):
                follower.on_fed(feed.voices)

    def _settle(self, feed: Feed) -> None:
        if not feed.settle():
            self._unsettled.pop(feed, None)
            return
        if not self._unsettled:
            self._timer.set(asyncio.get_running_loop().time() + SETTLE_INTERVAL_S)
        self._unsettled[feed] = None

    def _settle_all(self) -> None:
        unsettled, self._unsettled = self._unsettled, {}
        for feed in unsettled:
            self._settle(feed)

    def _count(self, feed: Feed) -> None:
        if feed.voices:
            self.waiting.difference_update(feed.followers)
        else:
            self.waiting.update(feed.followers)
