"""Rooms over real sockets and real peers: who hears whom, and who is told of it."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.support.audio import decode_audio, decode_opus
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import Signalling, signalling
from tests.support.voices import level_of, tone_payloads
from tests.support.whip_client import whip_client
from tests.support.whip_peers import playing

TOKENS = {
    "everything": {"scopes": ["send", "receive", "admin"]},
    "kitchen": {"scopes": ["send", "receive"], "rooms": ["Kitchen"]},
    "attic-alone": {"scopes": ["send", "receive"], "streams": ["attic"]},
}
CONFIG: dict[str, Any] = {"rooms": ["Kitchen", "Office"], "streams": {"exclusive_rooms": ["Office"]}}


def token(name: str) -> str:
    return f"{name}-".ljust(24, "x")


def guarded() -> dict[str, Any]:
    tokens = [{"token": token(name), **fields} for name, fields in TOKENS.items()]
    return CONFIG | {"access": {"tokens": tokens}}


def payloads(count: int) -> list[bytes]:
    return [os.urandom(40) for _ in range(count)]


async def get_json(server: RunningServer, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(server.url(path)) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def talk(sender: VoiceSender, **fields: Any) -> None:
    await sender.signalling.send("set_talking", talking=True, **fields)
    await sender.signalling.settle()


async def says(sender: VoiceSender, receivers: list[VoiceReceiver], others: list[VoiceReceiver] | None = None) -> None:
    """What it says arrives at these receivers, and not at the others."""
    said, before = payloads(4), [len(receiver.packets) for receiver in receivers]
    silent = [len(receiver.packets) for receiver in others or []]
    await sender.send(said)
    for receiver, count in zip(receivers, before, strict=True):
        await receiver.packets.wait_for(count + len(said))
        assert receiver.packets.payloads()[count:] == said
    assert [len(receiver.packets) for receiver in others or []] == silent


async def test_a_voice_for_a_room_is_heard_there_and_nowhere_else() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(CONFIG))
        kitchen = await stack.enter_async_context(voice_receiver(server.ws_url, room="room:kitchen"))
        office = await stack.enter_async_context(voice_receiver(server.ws_url, room="Office"))
        newest = await stack.enter_async_context(voice_receiver(server.ws_url, follow=True))
        talker = await stack.enter_async_context(voice_sender(server.ws_url, name="attic", talking=False))
        await talk(talker, rooms=["Kitchen"])
        await says(talker, [kitchen], [office, newest])
        await talk(talker, rooms=["Office", "Kitchen"])
        await says(talker, [kitchen, office], [newest])
        await talk(talker, rooms=[])
        await says(talker, [kitchen, office, newest])
        heard = [m for m in kitchen.signalling.history if m["type"] == "receiving"]
        assert heard[1] == {
            "type": "receiving",
            "stream_id": "attic",
            "name": "attic",
            "voices": [{"stream_id": "attic", "name": "attic"}],
            "room": "room:Kitchen",
            "shared": False,
        }


async def test_clients_that_do_not_ask_for_rooms_never_meet_one() -> None:
    async with (
        running_server(CONFIG) as server,
        signalling(server.ws_url) as card,
        voice_sender(server.ws_url, name="attic", rooms=["Kitchen"]) as talker,
    ):
        await card.send("subscribe_events")
        await card.send("start_receiving")
        assert (await card.expect("error"))["code"] == "no_stream"
        await talker.send(payloads(3))
        await card.send("get_available_streams")
        await card.settle()
        await talker.signalling.send("stop_stream")
        await talker.signalling.settle()
        await card.settle()
        assert all(m["streams"] == [] for m in card.history if m["type"] == "available_streams")
        assert {m["type"] for m in card.history} == {"available_streams", "error"}
        status = await get_json(server, "/stream/status")
        assert (status["active_streams"], status["details"]) == ([], [])


async def test_rooms_are_listed_and_changes_are_told_to_who_asked(server: RunningServer) -> None:
    async with signalling(server.ws_url) as watcher, signalling(server.ws_url) as other:
        await watcher.send("subscribe_rooms")
        listed = (await watcher.expect("rooms"))["rooms"]
        assert [room["room"] for room in listed] == ["room:Everyone"]
        async with voice_receiver(server.ws_url, room="Kitchen"):
            changed = (await watcher.expect("room_changed"))["room"]
            assert (changed["room"], changed["receivers"], changed["voices"]) == ("room:Kitchen", 1, [])
            async with voice_sender(server.ws_url, name="attic", rooms=["Kitchen"]) as talker:
                await talker.send(payloads(1))
                changed = await expect_room(watcher, voices=[{"stream_id": "attic", "name": "attic"}])
                assert changed["name"] == "Kitchen"
                (room,) = [r for r in (await get_json(server, "/api/rooms"))["rooms"] if r["name"] == "Kitchen"]
                assert room == changed
            await expect_room(watcher, voices=[])
        await expect_room(watcher, receivers=0)
        await watcher.send("unsubscribe_rooms")
        await other.expect_none("room_changed")


async def expect_room(client: Signalling, **fields: Any) -> dict[str, Any]:
    """The news that a room is so."""
    while True:
        room = dict((await client.expect("room_changed"))["room"])
        if fields.items() <= room.items():
            return room


async def test_two_voices_of_an_exclusive_room_take_turns() -> None:
    async with (
        running_server(CONFIG) as server,
        voice_receiver(server.ws_url, room="Office") as receiver,
        voice_sender(server.ws_url, name="attic", rooms=["Office"]) as attic,
        voice_sender(server.ws_url, name="garage", rooms=["Office"], talking=False) as garage,
    ):
        await says(attic, [receiver])
        await garage.signalling.send("set_talking", talking=True)
        refused = await garage.signalling.expect("error")
        assert (refused["code"], refused["message"]) == ("room_busy", "attic talks in Office: one at a time does there")
        await attic.signalling.send("set_talking", talking=False)
        await attic.signalling.settle()
        await talk(garage)
        await says(garage, [receiver])


async def test_only_what_is_urgent_disturbs_a_room_or_a_receiver_that_is_not_to_be_disturbed() -> None:
    async with (
        running_server(CONFIG) as server,
        voice_receiver(server.ws_url, room="Kitchen") as kitchen,
        voice_receiver(server.ws_url, room="Office") as office,
        voice_sender(server.ws_url, name="attic", talking=False) as talker,
    ):
        await kitchen.signalling.send("set_do_not_disturb", room="Kitchen", until=time.time() + 60)
        await kitchen.signalling.settle()
        await talk(talker)
        await says(talker, [office], [kitchen])
        await talk(talker, urgent=True)
        await says(talker, [office, kitchen])
        await kitchen.signalling.send("set_do_not_disturb", room="Kitchen")
        await office.signalling.send("set_do_not_disturb", until=time.time() + 60)
        await office.answer((await office.signalling.expect("webrtc_offer"))["offer"])
        rooms = {room["name"]: room for room in (await get_json(server, "/api/rooms"))["rooms"]}
        assert rooms["Office"]["quiet_receivers"] == 1
        assert rooms["Kitchen"]["quiet_until"] is None
        # It ends by itself.
        await office.signalling.send("set_do_not_disturb", until=time.time() + 0.3)
        await office.answer((await office.signalling.expect("webrtc_offer"))["offer"])
        rooms = {room["name"]: room for room in (await get_json(server, "/api/rooms"))["rooms"]}
        assert rooms["Office"]["quiet_receivers"] == 0


async def test_without_the_rooms_token_there_is_no_way_in() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(guarded()))
        ws = {name: f"{server.ws_url}?token={token(name)}" for name in TOKENS}
        talker = await stack.enter_async_context(voice_sender(ws["everything"], name="secret", rooms=["Office"]))
        insider = await stack.enter_async_context(voice_receiver(ws["everything"], room="Office"))
        await says(talker, [insider])
        for name in ("kitchen", "attic-alone"):
            outsider = await stack.enter_async_context(signalling(ws[name]))
            await outsider.send("subscribe_rooms")
            await outsider.send("subscribe_events")
            for wish in (
                {"room": "Office"},
                {"room": "room:OFFICE"},
                {"stream_id": "secret"},
                {"stream_id": "secret", "follow": True},
                {"stream_id": "room:Office"},
            ):
                await outsider.send("start_receiving", **wish)
            await outsider.send("subscribe_visualization", stream_id="secret")
            await outsider.send("set_do_not_disturb", room="Office", until=time.time() + 9)
            await outsider.send("start_sending", rooms=["Office"], name="attic")
            for path in ("/api/rooms", "/stream/status"):
                url = server.url(f"{path}?token={token(name)}")
                async with aiohttp.ClientSession() as http, http.get(url) as answer:
                    assert "ecret" not in await answer.text()
                    assert "Office" not in await answer.text()
            for method, path in (
                ("GET", "/stream/secret.mp3"),
                ("GET", "/stream/secret.m3u"),
                ("POST", "/whep/secret"),
                ("POST", "/whep/room/Office"),
            ):
                url = server.url(f"{path}?token={token(name)}")
                async with aiohttp.ClientSession() as http, http.request(method, url) as answer:
                    assert answer.status in (403, 404, 415), (name, path, answer.status)
            await says(talker, [insider])
            await outsider.settle()
            refused = [m["code"] for m in outsider.history if m["type"] == "error" and m["code"] != "unknown_type"]
            assert set(refused) <= {"unauthorized", "no_stream", "stream_ended"}, refused
            assert not [m for m in outsider.history if "ecret" in str(m) or "Office" in str(m).replace("OFFICE", "")]


@pytest.mark.parametrize(
    "wish",
    [
        {"rooms": ["a/b"]},
        {"rooms": [""]},
        {"rooms": "Kitchen"},
        {"rooms": ["x"] * 33},
        {"rooms": ["x" * 200]},
        {"rooms": [7]},
        {"urgent": "yes"},
    ],
)
async def test_wrong_rooms_are_refused(server: RunningServer, wish: dict[str, Any]) -> None:
    async with signalling(server.ws_url) as client:
        await client.send("start_sending", **wish)
        assert (await client.expect("error"))["code"] in ("bad_message", "bad_name")
        assert len((await get_json(server, "/api/rooms"))["rooms"]) == 1


async def test_a_crowd_of_rooms_is_refused_beyond_the_limit(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        for batch in range(4):
            await client.send("start_sending", rooms=[f"room {batch * 32 + number}" for number in range(32)])
        assert (await client.expect("error"))["code"] == "too_many_rooms"
        assert len((await get_json(server, "/api/rooms"))["rooms"]) == 100


async def test_a_speaker_plays_a_room_whoever_talks_there() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(CONFIG))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        watcher = await stack.enter_async_context(signalling(server.ws_url))
        await watcher.send("subscribe_rooms")
        for name, status in (("Kitchen", 200), ("kitchen", 200), ("a:b", 404)):
            for ending in ("mp3", "ogg"):
                async with http.head(server.audio_url(f"/room/{name}.{ending}")) as answer:
                    assert answer.status == status
        async with http.get(server.audio_url("/room/Kitchen.mp3")) as answer:
            assert answer.content_type == "audio/mpeg"
            await answer.content.readexactly(2000)
            await expect_room(watcher, name="Kitchen", listeners=1)
            (room,) = [r for r in (await get_json(server, "/api/rooms"))["rooms"] if r["name"] == "Kitchen"]
            assert (room["listeners"], room["receivers"]) == (1, 0)
            async with voice_sender(server.ws_url, name="attic", rooms=["Kitchen"]) as talker:
                await talker.send(payloads(1))
                await talker.signalling.settle()
                assert (await get_json(server, "/metrics"))["mp3_encoders"] == 1
            await answer.content.readexactly(2000)
        await expect_room(watcher, name="Kitchen", listeners=0)
        async with http.get(server.audio_url("/room/Kitchen.ogg")) as answer:
            assert (await answer.content.readexactly(4), answer.content_type) == (b"OggS", "audio/ogg")
            await expect_room(watcher, name="Kitchen", listeners=1)


async def test_three_who_talk_at_once_hear_both_others_and_whoever_listens_hears_all() -> None:
    tones = {"attic": 500, "garage": 900, "cellar": 1300}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(CONFIG))
        whep = await stack.enter_async_context(whip_client(server.url("/")))
        ears = {}
        for name in (*tones, "nobody"):
            wish: dict[str, Any] = {"room": "Kitchen", "except": [name]}
            ears[name] = await stack.enter_async_context(voice_receiver(server.ws_url, **wish))
        player, _ = await stack.enter_async_context(playing(whep, "/whep/room/Kitchen"))
        senders = [
            (frequency, await stack.enter_async_context(voice_sender(server.ws_url, name=name, rooms=["Kitchen"])))
            for name, frequency in tones.items()
        ]
        radio = await stack.enter_async_context(
            (await stack.enter_async_context(aiohttp.ClientSession())).get(server.audio_url("/room/Kitchen.mp3"))
        )
        await asyncio.gather(*(sender.send(tone_payloads(frequency)) for frequency, sender in senders))
        heard = {name: decode_opus(ear.packets.payloads()[25:]) for name, ear in ears.items()}
        heard["WHEP"] = decode_opus(player.packets.payloads()[25:])
        heard["MP3"] = decode_audio(await radio.content.readexactly(32_000))[48_000:]
        for name, samples in heard.items():
            for other, frequency in tones.items():
                level = level_of(samples, frequency)
                assert level < 0.01 if other == name else level > 0.04, (name, other, level)
        figures = await get_json(server, "/metrics")
        assert (figures["mixes"], figures["failures"]) == (4, 0)
        receiving = [m for m in ears["attic"].signalling.history if m["type"] == "receiving"]
        assert {voice["name"] for voice in receiving[-1]["voices"]} == {"garage", "cellar"}


async def test_who_stands_in_a_room_gets_the_meter_of_all_that_is_heard_there() -> None:
    async with (
        running_server(CONFIG) as server,
        voice_receiver(server.ws_url, room="Kitchen") as kitchen,
        voice_sender(server.ws_url, name="attic", talking=False) as talker,
        signalling(server.ws_url) as stranger,
    ):
        await stranger.send("subscribe_visualization", stream_id="room:Kitchen")
        assert (await stranger.expect("error"))["code"] == "no_room"
        await kitchen.signalling.send("subscribe_visualization", stream_id="room:kitchen")
        assert (await kitchen.signalling.expect("audio_data", stream_id="room:Kitchen"))["level"] < -90
        await talk(talker, rooms=["Kitchen"])
        await talker.send(tone_payloads(440)[:40])
        heard = await kitchen.signalling.expect("audio_data", stream_id="room:Kitchen")
        while heard["level"] < -40:
            heard = await kitchen.signalling.expect("audio_data", stream_id="room:Kitchen")
        await kitchen.signalling.send("unsubscribe_visualization", stream_id="room:Kitchen")
        await kitchen.signalling.settle()
        kitchen.signalling.inbox.clear()
        await talker.send(tone_payloads(440)[:20])
        await kitchen.signalling.expect_none("audio_data")


async def test_the_meter_of_a_room_goes_on_with_another_selection() -> None:
    async with (
        running_server(CONFIG) as server,
        voice_receiver(server.ws_url, room="Kitchen") as kitchen,
        voice_sender(server.ws_url, name="attic", talking=False) as talker,
    ):
        for quiet in (False, True):
            await kitchen.signalling.send("start_receiving", room="Kitchen", quiet=quiet)
            await kitchen.signalling.expect("webrtc_offer")
            await kitchen.signalling.send("subscribe_visualization", stream_id="room:Kitchen")
            await talk(talker, rooms=["Kitchen"], urgent=True)
            await talker.send(tone_payloads(440)[:40])
            while (await kitchen.signalling.expect("audio_data", stream_id="room:Kitchen"))["level"] < -40:
                pass
