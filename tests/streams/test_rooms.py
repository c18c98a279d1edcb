"""Rooms: who stands in them, who talks there, who wants to be left alone."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.stage import until
from voice_streaming.process.refusal import Refused
from voice_streaming.streams.grants import Grant, Scope
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.rooms import FORGOTTEN_AFTER_S, Audience, Room, RoomObserver, Rooms
from voice_streaming.streams.stream import Stream


class News(RoomObserver):
    def __init__(self) -> None:
        self.changed: list[str] = []
        self.forgotten: list[str] = []

    def on_room_changed(self, room: Room) -> None:
        self.changed.append(room.name)

    def on_room_forgotten(self, room: Room) -> None:
        self.forgotten.append(room.name)


class House:
    def __init__(self, *names: str, exclusive: tuple[str, ...] = (), most: int = 100) -> None:
        self.streams = Streams(VoiceRelay(), resume_grace_s=10)
        self.rooms = Rooms(self.streams.active, names, exclusive, most)
        self.streams.observe(self.rooms)
        self.news = News()
        self.rooms.observe(self.news)

    def voice(self, stream_id: str, *rooms: str, urgent: bool = False, sender: str = "sender") -> Stream:
        """One that is live."""
        stream = self.streams.create(stream_id, stream_id.title(), sender)
        audience = self.rooms.audience(rooms, urgent=urgent)
        stream.rooms, stream.urgent = audience.rooms, audience.urgent
        stream.track.take_source().publish(1, 0, 0, True, b"voice", 0.0)
        return stream

    def heard(self, room: str, grant: Grant | None = None) -> list[str]:
        found = self.rooms.find(room)
        assert found is not None
        state = self.rooms.state(found, grant) if grant else self.rooms.state(found)
        return [voice.stream_id for voice in state.voices]


async def test_a_room_hears_voices_for_it_and_for_everyone() -> None:
    house = House("Kitchen", "Office")
    house.voice("attic")
    house.voice("garage", "Kitchen")
    house.voice("cellar", "kitchen", "OFFICE")
    assert house.heard("Kitchen") == ["attic", "garage", "cellar"]
    assert house.heard("room:office") == ["attic", "cellar"]
    assert house.heard("Everyone") == ["attic"]


async def test_rooms_come_about_by_use_up_to_the_limit_and_keep_the_first_name() -> None:
    house = House("Kitchen", most=3)
    room = house.rooms.use("Büro 1.OG")
    assert (house.rooms.use("BÜRO 1.og"), room.name, room.id) == (room, "Büro 1.OG", "room:Büro 1.OG")
    with pytest.raises(Refused, match="There are 3 rooms"):
        house.rooms.use("Attic")
    for name in ("", "a/b", "a:b", "x" * 65, "latest", "room:", "a\u202eb"):
        with pytest.raises(Refused) as refused:
            house.rooms.use(name)
        assert refused.value.code in ("bad_name", "too_many_rooms")
    assert [found.name for found in house.rooms.visible()] == ["Everyone", "Kitchen", "Büro 1.OG"]


async def test_who_talks_to_everyone_talks_to_no_room_in_particular() -> None:
    house = House("Kitchen")
    assert house.rooms.audience(["Kitchen", "everyone"]) == Audience()
    assert house.rooms.audience(["kitchen", "KITCHEN"], urgent=True) == Audience(("Kitchen",), urgent=True)


async def test_a_room_that_is_not_to_be_disturbed_hears_urgent_voices_until_then() -> None:
    house = House("Kitchen")
    selected: list[bool] = []
    house.rooms.on_selection(lambda: selected.append(True))
    room = house.rooms.use("Kitchen")
    house.voice("attic")
    house.voice("alarm", urgent=True)
    house.rooms.do_not_disturb(room, time.time() + 0.2)
    assert house.heard("Kitchen") == ["alarm"]
    quiet_until = house.rooms.state(room).quiet_until
    assert quiet_until == pytest.approx(time.time() + 0.2, abs=0.1)
    assert selected == [True]
    await until(lambda: len(selected) == 2, "it is over")
    assert house.heard("Kitchen") == ["attic", "alarm"]
    assert house.rooms.state(room).quiet_until is None
    house.rooms.do_not_disturb(room, 1e300)
    assert house.heard("Kitchen") == ["alarm"]
    house.rooms.do_not_disturb(room, None)
    assert house.heard("Kitchen") == ["attic", "alarm"]
    house.rooms.close()


async def test_one_at_a_time_talks_in_an_exclusive_room() -> None:
    house = House("Kitchen", "Office", exclusive=("office",))
    house.voice("attic", sender="a")
    house.rooms.check_free(["Office"], "b")
    house.voice("garage", "Office", sender="b")
    house.rooms.check_free(["Office", "Kitchen"], "b")
    house.rooms.check_free(["Kitchen"], "c")
    with pytest.raises(Refused, match="Garage talks in Office") as refused:
        house.rooms.check_free(["Kitchen", "Office"], "c")
    assert refused.value.code == "room_busy"


async def test_what_happens_at_once_is_told_once_and_soon() -> None:
    house = House("Kitchen", "Office")
    room = house.rooms.use("Kitchen")
    for number in range(400):
        house.rooms.enter(room, f"receiver {number}", quiet=number < 3)
    house.voice("attic", "Kitchen")
    await until(lambda: bool(house.news.changed), "it is told")
    assert house.news.changed == ["Kitchen"]
    state = house.rooms.state(room)
    assert (state.receivers, state.quiet_receivers) == (400, 3)
    house.rooms.leave(room, "receiver 7")
    house.rooms.leave(room, "receiver 7")
    await until(lambda: len(house.news.changed) == 2, "it is told")
    assert house.rooms.state(room).receivers == 399


async def test_a_grant_sees_its_rooms_and_the_voices_that_it_may_hear() -> None:
    house = House("Kitchen", "Office")
    house.voice("attic")
    house.voice("garage", "Kitchen")
    house.voice("cellar", "Office", "Kitchen")
    receive = frozenset({Scope.RECEIVE})
    kitchen = Grant(receive, rooms=frozenset({"kitchen"}))
    office = Grant(receive, streams=frozenset(), rooms=frozenset({"Office"}))
    streams_alone = Grant(receive, streams=frozenset({"attic", "garage"}))
    assert [room.name for room in house.rooms.visible(kitchen)] == ["Kitchen"]
    assert house.rooms.visible(streams_alone) == []
    assert house.heard("Kitchen", kitchen) == ["attic", "garage", "cellar"]
    assert house.heard("Kitchen", office) == ["cellar"]
    assert house.heard("Kitchen", streams_alone) == ["attic"]
    assert house.heard("Kitchen", Grant(frozenset({Scope.SEND}))) == []


async def test_a_room_that_nobody_uses_is_forgotten_and_those_of_the_settings_are_not() -> None:
    house = House("Kitchen")
    used, unused = house.rooms.use("Attic"), house.rooms.use("Cellar")
    house.rooms.enter(used, "receiver")
    for room in (used, unused, house.rooms.use("Kitchen")):
        room.used_s = time.monotonic() - FORGOTTEN_AFTER_S - 1
    house.rooms.forget_unused()
    assert house.news.forgotten == ["Cellar"]
    assert [room.name for room in house.rooms.visible()] == ["Everyone", "Kitchen", "Attic"]
    await asyncio.sleep(0)
