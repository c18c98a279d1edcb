"""Feeds: who is fed what, on one timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.audio import decode_opus
from tests.support.publishing import Recorder
from tests.support.virtual_time import run
from tests.support.voices import Ear, Voice, level_of, tone_payloads
from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.feed import Feed, Feeds, Selection
from voice_streaming.streams.grants import Grant, Scope
from voice_streaming.streams.mixing import Mixes
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.rooms import Rooms
from voice_streaming.streams.source import Source
from voice_streaming.streams.stream import Stream


class Follower:
    def __init__(self, name: str = "follower") -> None:
        self.id = name
        self.fed: list[str | None] = []

    def on_fed(self, voices: Sequence[Stream]) -> None:
        self.fed.append(voices[-1].id if voices else None)


class House:
    """A registry with feeds, and voices in it."""

    def __init__(self) -> None:
        self.relay = VoiceRelay()
        self.streams = Streams(self.relay, resume_grace_s=10)
        self.mixes = Mixes(self.relay)
        self.feeds = Feeds(self.relay, self.streams.active, self.mixes)
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


class Everyone:
    """A room of everyone, in virtual time, with voices that are tones."""

    def __init__(self) -> None:
        self.relay = VoiceRelay()
        self.streams = Streams(self.relay, resume_grace_s=10)
        self.rooms = Rooms(self.streams.active)
        self.mixes = Mixes(self.relay, even_loudness=False)
        self.feeds = Feeds(self.relay, self.streams.active, self.mixes)
        self.streams.observe(self.feeds)
        self.room = self.rooms.use("Everyone")

    def ear(self, name: str, *excluded: str) -> Ear:
        feed = self.feeds.join(Selection(room=self.room, excluded=frozenset(excluded)), Follower(name))
        return Ear(feed.track)

    async def talk(self, name: str, frequency_hz: int, seconds: float) -> None:
        stream = self.streams.create(name, name, name)
        await Voice(frequency_hz, stream.track).talk(seconds)
        self.streams.end(stream, "sender left")


def test_one_voice_passes_as_it_came_several_are_mixed_and_one_alone_passes_again() -> None:
    async def scene() -> None:
        house = Everyone()
        ear, attic, garage = house.ear("listener"), house.ear("attic", "attic"), house.ear("garage", "garage")

        async def barge_in() -> None:
            await asyncio.sleep(1)
            assert len(house.mixes) == 0
            await house.talk("garage", 900, 1)

        await asyncio.gather(house.talk("attic", 500, 1.5), barge_in())
        await asyncio.sleep(0.2)
        assert len(house.mixes) == 0
        alone = set(tone_payloads(500)), set(tone_payloads(900))
        kinds = [0 if packet.payload in alone[0] else 1 if packet.payload in alone[1] else 2 for packet in ear.packets]
        changes = [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]
        # The second goes on in the mix: it does not pause until its end.
        assert changes == [0, 2]
        assert kinds.count(0) == 50
        assert {packet.payload in alone[1] for packet in attic.packets} == {True}
        assert {packet.payload in alone[0] for packet in garage.packets} == {True}
        mixed = decode_opus([packet.payload for packet, kind in zip(ear.packets, kinds, strict=True) if kind == 2])
        both = mixed[9_600:19_200]
        assert level_of(both, 500) == pytest.approx(0.1, rel=0.2)
        assert level_of(both, 900) == pytest.approx(0.1, rel=0.2)
        # Its last word is there, to the end.
        assert len(mixed) / 48_000 == pytest.approx(1.0 + 0.04, abs=0.06)
        numbers = [packet.sequence - ear.packets[0].sequence for packet in ear.packets]
        assert numbers == list(range(len(numbers)))

    run(scene())


def test_after_a_pause_the_one_who_is_left_passes_as_he_came() -> None:
    async def scene() -> None:
        house = Everyone()
        ear = house.ear("listener")
        stream = house.streams.create("attic", "attic", "attic")
        voice = Voice(500, stream.track)
        await asyncio.gather(voice.talk(1), house.talk("garage", 900, 0.5))
        await asyncio.sleep(0.4)
        assert len(house.mixes) == 0
        before = len(ear.packets)
        await voice.talk(0.2)
        assert all(packet.payload in tone_payloads(500) for packet in ear.packets[before:])
        assert len(ear.packets) - before == 10

    run(scene())


def test_where_there_are_too_many_mixes_talkers_share_that_of_whoever_listens() -> None:
    async def scene() -> None:
        house = Everyone()
        house.mixes.most = 1
        listener = house.ear("listener")
        first = house.ear("first", "attic")
        second = house.ear("second", "garage")
        voices = (("attic", 500), ("garage", 900), ("cellar", 1300))
        await asyncio.gather(*(house.talk(name, frequency, 1.0) for name, frequency in voices))
        heard = {ear: {f for _, f in voices if level_of(ear.samples()[24_000:], f) > 0.03} for ear in (listener, first)}
        assert heard == {listener: {500, 900, 1300}, first: {500, 900, 1300}}
        await asyncio.sleep(0.5)
        assert len(house.mixes) == 0
        assert house.mixes.counters.refused_mixes >= 2
        assert {f for _, f in voices if level_of(second.samples()[24_000:], f) > 0.03} == {500, 900, 1300}

    run(scene())
