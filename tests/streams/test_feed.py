"""Feeds: who is fed what, on one timeline."""

from __future__ import annotations

import pytest

from tests.support.publishing import Recorder
from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.feed import Feed, Feeds, Selection
from voice_streaming.streams.grants import Grant, Scope
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.source import Source
from voice_streaming.streams.stream import Stream


class Follower:
    def __init__(self, name: str = "follower") -> None:
        self.id = name
        self.fed: list[str | None] = []

    def on_fed(self, stream: Stream | None) -> None:
        self.fed.append(None if stream is None else stream.id)


class House:
    """A registry with feeds, and voices in it."""

    def __init__(self) -> None:
        self.relay = VoiceRelay()
        self.streams = Streams(self.relay, resume_grace_s=10)
        self.feeds = Feeds(self.relay, self.streams.active)
        self.streams.observe(self.feeds)
        self.now_s = 100.0
        self._sources: dict[str, Source] = {}
        self._numbers: dict[str, int] = {}

    def say(self, stream_id: str, payload: bytes, later_s: float = 0.02) -> None:
        """A packet of that stream, which begins with its first."""
        if stream_id not in self.streams.active:
            stream = self.streams.create(stream_id, stream_id.title(), "sender")
            self._sources[stream_id] = stream.track.take_source()
        self.now_s += later_s
        number = self._numbers[stream_id] = self._numbers.get(stream_id, len(stream_id) * 5_000) + 1
        self._sources[stream_id].publish(7, number & 0xFFFF, number * 960, False, payload, self.now_s)

    def end(self, stream_id: str) -> None:
        self.streams.end(self.streams.active[stream_id], "sender left")

    def hear(self, feed: Feed) -> list[OpusPacket]:
        sink = Recorder()
        self.relay.attach(feed.track, sink)
        return sink.packets


@pytest.fixture
async def house() -> House:
    return House()


async def test_the_newest_voice_is_fed_from_its_first_packet_on_and_then_the_one_before(house: House) -> None:
    follower = Follower()
    feed = house.feeds.join(Selection(), follower)
    heard = house.hear(feed)
    house.say("attic", b"a1")
    house.say("attic", b"a2")
    house.say("garage", b"g1")
    house.say("attic", b"unheard")
    house.say("garage", b"g2")
    house.end("garage")
    house.say("attic", b"a3")
    house.end("attic")
    assert [packet.payload for packet in heard] == [b"a1", b"a2", b"g1", b"g2", b"a3"]
    assert follower.fed == ["attic", "garage", "attic", None]


async def test_the_timeline_goes_on_in_step_with_the_clock(house: House) -> None:
    heard = house.hear(house.feeds.join(Selection(), Follower()))
    house.say("attic", b"a1")
    house.say("attic", b"a2")
    house.say("garage", b"g1", later_s=0.03)
    house.end("garage")
    house.end("attic")
    house.say("kitchen", b"k1", later_s=60)
    sequences = [packet.sequence - heard[0].sequence for packet in heard]
    ticks = [packet.timestamp - heard[0].timestamp for packet in heard]
    assert sequences == [0, 1, 2, 3]
    assert ticks == [0, 960, 960 + 1440, 960 + 1440 + 60 * 48_000]


async def test_a_chosen_stream_is_fed_whenever_it_is_there_in_whatever_case(house: House) -> None:
    follower = Follower()
    feed = house.feeds.join(Selection("Kitchen"), follower)
    assert house.feeds.join(Selection("kitchen"), Follower("other")) is feed
    heard = house.hear(feed)
    house.say("attic", b"unheard")
    house.say("kitchen", b"k1")
    house.say("attic", b"unheard")
    house.end("kitchen")
    house.say("kitchen", b"k2")
    assert [packet.payload for packet in heard] == [b"k1", b"k2"]
    assert follower.fed == ["kitchen", None, "kitchen"]


async def test_what_is_excluded_or_not_granted_is_never_fed(house: House) -> None:
    granted = Grant(frozenset({Scope.RECEIVE}), frozenset({"attic", "own"}))
    feeds = [
        house.feeds.join(Selection(None, granted), Follower("granted")),
        house.feeds.join(Selection("garage", granted), Follower("outside")),
        house.feeds.join(Selection(excluded=frozenset({"own"})), Follower("talker")),
    ]
    heard = [house.hear(feed) for feed in feeds]
    for stream_id in ("attic", "own", "garage"):
        house.say(stream_id, stream_id.encode())
    assert [[packet.payload for packet in log] for log in heard] == [[b"attic", b"own"], [], [b"attic", b"garage"]]


async def test_followers_are_receivers_of_what_they_are_fed_and_wait_else(house: House) -> None:
    one, other = Follower("one"), Follower("other")
    feed = house.feeds.join(Selection(), one)
    assert house.feeds.waiting == {"one"}
    house.say("attic", b"a")
    attic = house.streams.active["attic"]
    house.feeds.join(Selection(), other)
    assert (attic.receivers, house.feeds.waiting) == ({"one", "other"}, set())
    house.say("garage", b"g")
    assert (attic.receivers, house.streams.active["garage"].receivers) == (set(), {"one", "other"})
    house.end("garage")
    house.feeds.leave(feed, one)
    house.feeds.leave(feed, one)
    assert attic.receivers == {"other"}
    house.end("attic")
    assert house.feeds.waiting == {"other"}
    house.feeds.leave(feed, other)
    assert (house.feeds.waiting, feed.track.readyState) == (set(), "ended")


async def test_a_feed_without_followers_is_forgotten_and_the_next_one_is_new(house: House) -> None:
    follower = Follower()
    feed = house.feeds.join(Selection(), follower)
    house.say("attic", b"a")
    house.feeds.leave(feed, follower)
    assert house.feeds.join(Selection(), follower) is not feed
    house.say("garage", b"g")
    assert follower.fed == ["attic", "garage"]
