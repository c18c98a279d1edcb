"""Senders that are armed, and receivers that follow: over real sockets and real peers, every packet known."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.support.audio import decode_audio
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.voices import tone_payloads


def payloads(count: int) -> list[bytes]:
    return [os.urandom(40) for _ in range(count)]


async def status(server: RunningServer) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(server.url("/stream/status")) as answer:
        return dict(await answer.json())


async def begin_to_talk(sender: VoiceSender) -> None:
    await sender.signalling.send("set_talking", talking=True)
    await sender.signalling.settle()


async def stop_to_talk(sender: VoiceSender) -> None:
    await sender.signalling.send("set_talking", talking=False)
    await sender.signalling.settle()


async def say(sender: VoiceSender, receiver: VoiceReceiver, count: int = 5) -> list[bytes]:
    """Sends some packets, and returns when the receiver has all of them."""
    said, before = payloads(count), len(receiver.packets)
    await sender.send(said)
    await receiver.packets.wait_for(before + count)
    assert receiver.packets.payloads()[before:] == said
    return said


async def test_an_armed_sender_is_not_live_whatever_it_sends(server: RunningServer) -> None:
    async with (
        signalling(server.ws_url) as watcher,
        voice_sender(server.ws_url, name="kitchen", talking=False) as sender,
    ):
        assert not (await sender.signalling.expect("talking"))["talking"]
        await sender.send(payloads(15))
        await sender.signalling.settle()
        await watcher.expect_none("stream_available")
        assert (await status(server))["active_streams"] == []
        async with aiohttp.ClientSession() as http, http.get(server.url("/stream/kitchen.mp3")) as answer:
            assert answer.status == 404


async def test_a_press_is_heard_from_its_first_packet_to_its_last_on_the_connection_that_is_there(
    server: RunningServer,
) -> None:
    async with (
        voice_receiver(server.ws_url, follow=True) as receiver,
        voice_sender(server.ws_url, name="kitchen", talking=False) as sender,
    ):
        assert (await receiver.signalling.expect("receiving"))["stream_id"] is None
        for _ in range(3):
            await begin_to_talk(sender)
            await say(sender, receiver)
            assert await sender.signalling.expect("talking", talking=True) == {
                "type": "talking",
                "talking": True,
                "stream_id": "kitchen",
                "receivers": 1,
                "listeners": 0,
            }
            fed = await receiver.signalling.expect("receiving")
            assert (fed["stream_id"], fed["name"]) == ("kitchen", "kitchen")
            await receiver.signalling.expect("stream_available", stream_id="kitchen")
            await stop_to_talk(sender)
            await receiver.signalling.expect("stream_ended", stream_id="kitchen", reason="stopped talking")
            assert (await receiver.signalling.expect("receiving"))["stream_id"] is None
        assert len({packet.ssrc for packet in receiver.packets}) == 1
        sequences = [packet.sequence for packet in receiver.packets]
        assert [(number - sequences[0]) & 0xFFFF for number in sequences] == list(range(15))


async def test_what_overtakes_the_word_is_heard_and_what_is_older_is_not(server: RunningServer) -> None:
    async with (
        voice_receiver(server.ws_url, follow=True) as receiver,
        voice_sender(server.ws_url, name="kitchen", talking=False) as sender,
    ):
        await sender.send(payloads(3))
        await asyncio.sleep(0.4)
        early = payloads(3)
        await sender.send(early, interval_s=0.005)
        await begin_to_talk(sender)
        later = payloads(3)
        await sender.send(later)
        await receiver.packets.wait_for(6)
        assert receiver.packets.payloads() == early + later


async def test_a_sender_that_began_without_a_word_of_talking_can_stop_to_talk_and_go_on(server: RunningServer) -> None:
    async with (
        voice_receiver(server.ws_url, follow=True) as receiver,
        voice_sender(server.ws_url) as sender,
    ):
        await say(sender, receiver)
        await stop_to_talk(sender)
        assert (await status(server))["active_streams"] == []
        await sender.send(payloads(2))
        await asyncio.sleep(0.3)
        await begin_to_talk(sender)
        await say(sender, receiver)
        assert "talking" not in {message["type"] for message in receiver.signalling.history}


async def test_clients_that_do_not_know_of_talking_are_not_told(server: RunningServer) -> None:
    async with voice_receiver(server.ws_url, follow=True) as receiver, voice_sender(server.ws_url) as sender:
        await say(sender, receiver)
        await sender.signalling.expect_none("talking")


async def test_an_armed_name_is_nobody_elses(server: RunningServer) -> None:
    async with (
        voice_sender(server.ws_url, name="kitchen", talking=False) as holder,
        signalling(server.ws_url) as other,
    ):
        await holder.signalling.expect("talking")
        await other.send("start_sending", name="Kitchen")
        assert (await other.expect("error"))["code"] == "name_taken"
        async with voice_sender(server.ws_url, name="kitchen", take_over=True, talking=False):
            await holder.signalling.expect("stream_ended", stream_id="kitchen", reason="replaced")
        await holder.signalling.send("set_talking", talking=True)
        assert (await holder.signalling.expect("error"))["code"] == "unexpected_talking"


async def test_an_armed_name_is_free_when_its_client_is_gone(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen", talking=False) as holder:
        await holder.signalling.expect("talking")
    async with voice_sender(server.ws_url, name="kitchen") as other:
        await other.send(payloads(1))
        await other.signalling.expect("stream_available", stream_id="kitchen")


async def test_a_live_sender_that_comes_back_armed_ends_its_stream_and_keeps_its_name(server: RunningServer) -> None:
    async with signalling(server.ws_url) as watcher, voice_sender(server.ws_url, name="kitchen") as sender:
        await sender.send(payloads(1))
        await watcher.expect("stream_available")
        async with voice_sender(server.ws_url, name="kitchen", resume=sender.resume_key, talking=False) as again:
            await watcher.expect("stream_ended", stream_id="kitchen", reason="stopped talking")
            await begin_to_talk(again)
            await again.send(payloads(1))
            await watcher.expect("stream_available", stream_id="kitchen")


async def test_a_follower_goes_to_the_newest_and_back_without_a_packet_lost(server: RunningServer) -> None:
    async with (
        voice_receiver(server.ws_url, follow=True) as receiver,
        voice_sender(server.ws_url, name="attic", talking=False) as attic,
        voice_sender(server.ws_url, name="garage", talking=False) as garage,
    ):
        await begin_to_talk(attic)
        await say(attic, receiver)
        await begin_to_talk(garage)
        await say(garage, receiver)
        await attic.send(payloads(3))
        await stop_to_talk(garage)
        await say(attic, receiver)
        sequences = [packet.sequence for packet in receiver.packets]
        assert [(number - sequences[0]) & 0xFFFF for number in sequences] == list(range(15))
        assert [m["stream_id"] for m in receiver.signalling.history if m["type"] == "receiving"] == [
            None,
            "attic",
            "garage",
            "attic",
        ]


async def test_a_follower_of_one_stream_and_one_that_excludes_it(server: RunningServer) -> None:
    deafness: dict[str, Any] = {"follow": True, "except": ["KITCHEN"]}
    async with (
        voice_receiver(server.ws_url, "kitchen", follow=True) as chosen,
        voice_receiver(server.ws_url, **deafness) as deaf,
        voice_sender(server.ws_url, name="attic") as attic,
        voice_sender(server.ws_url, name="Kitchen") as kitchen,
    ):
        await say(attic, deaf)
        await say(kitchen, chosen)
        await say(attic, deaf)
        assert (len(chosen.packets), len(deaf.packets)) == (5, 10)


async def test_two_quick_requests_to_follow_are_one_and_another_choice_is_another_connection(
    server: RunningServer,
) -> None:
    async with signalling(server.ws_url) as client:
        for _ in range(2):
            await client.send("start_receiving", follow=True)
        await client.expect("webrtc_offer", stream_id=None)
        await client.expect_none("webrtc_offer")
        await client.send("start_receiving", follow=True, stream_id="kitchen")
        await client.expect("webrtc_offer", stream_id=None)


async def test_followers_that_wait_count_as_receivers() -> None:
    async with (
        running_server({"limits": {"max_receivers": 1}}) as server,
        voice_receiver(server.ws_url, follow=True) as receiver,
        signalling(server.ws_url) as other,
    ):
        await other.send("start_receiving", follow=True)
        assert (await other.expect("error"))["code"] == "too_many_receivers"
        await receiver.stop()
        await receiver.signalling.settle()
        await other.send("start_receiving", follow=True)
        await other.expect("webrtc_offer")


@pytest.mark.parametrize(
    "wish", [{"except": ["x" * 200]}, {"except": [*"abcdefghijklmnopq"]}, {"follow": "yes"}, {"except": [1]}]
)
async def test_a_wrong_wish_to_follow_is_refused(server: RunningServer, wish: dict[str, Any]) -> None:
    async with signalling(server.ws_url) as client:
        await client.send("start_receiving", **{"follow": True, **wish})
        assert (await client.expect("error"))["code"] == "bad_message"


async def test_talking_needs_a_sender(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        await client.send("set_talking", talking=True)
        assert (await client.expect("error"))["code"] == "unexpected_talking"


async def test_a_silent_armed_sender_stays() -> None:
    settings = {"webrtc": {"media_timeout_s": 0.3}}
    async with running_server(settings) as quick:
        for name in (None, "kitchen"):
            async with (
                voice_receiver(quick.ws_url, follow=True) as receiver,
                voice_sender(quick.ws_url, name=name, talking=False) as sender,
            ):
                await sender.signalling.expect("talking")
                await asyncio.sleep(1)
                await begin_to_talk(sender)
                await say(sender, receiver)


async def test_a_player_that_waits_hears_a_press_from_its_first_word_to_its_last(server: RunningServer) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(server.audio_url("/stream/latest.mp3")) as radio,
        voice_sender(server.ws_url, name="kitchen", talking=False) as sender,
    ):
        await radio.content.readexactly(8_000)
        await begin_to_talk(sender)
        await sender.send(tone_payloads(500)[:50])
        await stop_to_talk(sender)
        audio = b""
        while True:
            # 128 kbit/s are 16,000 bytes a second.
            audio += await radio.content.readexactly(8_000)
            samples = decode_audio(audio)
            loud = np.flatnonzero(np.abs(samples) > 0.03)
            if loud.size and samples.size - loud[-1] > 24_000:
                break
    # A second of it, and what was concealed where the sender was late.
    assert (loud[-1] - loud[0]) / 48_000 > 0.96
