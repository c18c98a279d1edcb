"""Daemons with one set of streams: real processes, a real Redis, real WebRTC."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.cluster import (
    cluster_of,
    node,
    offer_to_receive,
    until_listed,
    until_only,
    until_said,
    until_true,
)
from tests.support.live_streams import get_json, payloads
from tests.support.redis_server import RedisServer
from tests.support.rtc_client import VoiceReceiver, voice_receiver, voice_sender
from tests.support.server import RunningServer
from tests.support.signalling import Signalling, signalling
from tests.support.stage import PACKET_S, PAYLOADS
from tests.support.talking import talking
from tests.support.whip_client import whip_client
from tests.support.whip_peers import playing, publishing, receivers_become

pytestmark = [pytest.mark.any_python, pytest.mark.asyncio(loop_scope="module")]


async def test_a_voice_on_one_node_is_heard_on_the_other(one: RunningServer, two: RunningServer) -> None:
    said = payloads(100)
    async with talking(one.ws_url, "kitchen", said):
        (details,) = await until_listed(two, "kitchen")
        assert (details["node"], details["via"], details["state"]) == ("one", "websocket", "active")
        async with voice_receiver(two.ws_url, "kitchen") as receiver, voice_receiver(one.ws_url) as near:
            await receiver.packets.wait_for(100)
            await near.packets.wait_for(50)
            assert set(receiver.packets.payloads()) <= set(said)
            assert (await cluster_of(two))["pulls"] == 1
            async with voice_receiver(two.ws_url, "kitchen") as second:
                await second.packets.wait_for(10)
                assert (await cluster_of(two))["pulls"] == 1
    await until_listed(two)
    await until_listed(one)


async def test_several_voices_go_both_ways_between_two_nodes(one: RunningServer, two: RunningServer) -> None:
    """Each connection has a socket of its own: between the same two sockets packets could not be told apart."""
    async with AsyncExitStack() as stack:
        said = {name: payloads(50) for name in ("a", "b", "c", "d")}
        receivers: dict[str, VoiceReceiver] = {}
        for name, (here, there) in {"a": (one, two), "b": (two, one), "c": (one, two), "d": (two, one)}.items():
            await stack.enter_async_context(talking(here.ws_url, name, said[name]))
            await until_listed(there, *list(said)[: len(receivers) + 1])
            receivers[name] = await stack.enter_async_context(voice_receiver(there.ws_url, name))
        for name, receiver in receivers.items():
            await receiver.packets.wait_for(50)
            assert set(receiver.packets.payloads()) <= set(said[name])
    await until_listed(one)


async def test_a_name_is_one_nodes_and_is_taken_over_with_its_key(one: RunningServer, two: RunningServer) -> None:
    said, other = payloads(50), payloads(50)
    async with talking(one.ws_url, "kitchen", said) as sender, signalling(two.ws_url) as client:
        await until_listed(two, "kitchen")
        await client.send("start_sending", name="Kitchen")
        assert (await client.expect("error"))["code"] == "name_taken"
        await client.send("start_sending", name="Kitchen", resume="wrong")
        assert (await client.expect("error"))["code"] == "name_taken"
        async with voice_receiver(one.ws_url, "kitchen") as near, voice_receiver(two.ws_url, "kitchen") as far:
            await near.packets.wait_for(10)
            await far.packets.wait_for(10)
            async with voice_sender(two.ws_url, name="kitchen", resume=sender.resume_key) as second:
                task = asyncio.ensure_future(second.send(itertools.cycle(other)))
                assert (await sender.signalling.expect("stream_ended"))["reason"] == "replaced"
                for receiver in (near, far):
                    receiver.packets.clear()
                    await receiver.packets.wait_for(20)
                    await until_only(receiver.packets.payloads, other)
                (details,) = await until_listed(one, "kitchen")
                assert details["node"] == "two"
                task.cancel()
    await until_listed(one)


async def test_words_of_push_to_talk_are_heard_elsewhere_from_their_begin(
    one: RunningServer, two: RunningServer
) -> None:
    async with (
        voice_receiver(two.ws_url, follow=True) as receiver,
        voice_sender(one.ws_url, name="garden", talking=False) as sender,
    ):
        await until_said(two, "pulls", 1)
        for _ in range(3):
            said = payloads(25)
            sending = asyncio.ensure_future(sender.send(said))
            await sender.signalling.send("set_talking", talking=True)
            await sending
            await until_only(receiver.packets.payloads, said[-5:])
            await sender.signalling.send("set_talking", talking=False)
            assert set(said) <= set(receiver.packets.payloads())
            await until_listed(two)


async def test_rooms_are_those_of_all_nodes(one: RunningServer, two: RunningServer) -> None:
    said = payloads(100)
    async with signalling(one.ws_url) as watcher, voice_receiver(two.ws_url, room="Office") as receiver:
        await watcher.send("subscribe_rooms")
        await until_room(watcher, "Office", receivers=1, quiet=False)
        async with voice_sender(one.ws_url, name="attic", rooms=["Office"]) as sender:
            saying = asyncio.ensure_future(sender.send(itertools.cycle(said)))
            await receiver.signalling.expect("receiving", stream_id="attic")
            await receiver.packets.wait_for(20)
            assert not [m for m in receiver.signalling.history if m["type"] == "stream_available"]
            saying.cancel()
        await watcher.send("set_do_not_disturb", room="room:Office", until=time.time() + 100)
        async with signalling(two.ws_url) as other:
            await other.send("subscribe_rooms")
            await until_room(other, "Office", receivers=1, quiet=True)
            await other.send("set_do_not_disturb", room="room:Office")
            await until_room(watcher, "Office", receivers=1, quiet=False)


async def until_room(client: Signalling, name: str, *, receivers: int, quiet: bool) -> None:
    """Waits until the last word of that room is so."""
    async with asyncio.timeout(10):
        while True:
            told = [
                room
                for message in client.history
                for room in [message.get("room"), *message.get("rooms", [])]
                if isinstance(room, dict) and room["name"] == name
            ]
            if told and (told[-1]["receivers"], told[-1]["quiet_until"] is not None) == (receivers, quiet):
                return
            await asyncio.sleep(0.02)


async def test_a_node_is_asked_for_its_own_voices_alone_and_by_its_secret(
    one: RunningServer, two: RunningServer, daemons: tuple[RedisServer, list[RunningServer]]
) -> None:
    async with daemons[0].client() as client:
        secret = await client.get("{voice}:secret")
    assert isinstance(secret, str)
    offer = await offer_to_receive()
    async with talking(one.ws_url, "hall", payloads(50)), aiohttp.ClientSession() as http:
        await until_listed(two, "hall")
        for server, token, status in ((one, secret, 201), (two, secret, 409), (two, "another", 201)):
            headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"}
            async with http.post(server.url("/whep/hall"), data=offer, headers=headers) as response:
                assert response.status == status


async def test_a_voice_that_comes_by_whip_is_played_by_whep_elsewhere(one: RunningServer, two: RunningServer) -> None:
    """And each session is ended at the node that it is not with."""
    async with (
        whip_client(one.url("/")) as at_one,
        whip_client(two.url("/")) as at_two,
        publishing(at_one, "/whip/hall") as (sender, published),
    ):

        async def say() -> None:
            for payload in itertools.cycle(PAYLOADS):
                sender.say(payload)
                await asyncio.sleep(PACKET_S)

        saying = asyncio.ensure_future(say())
        (details,) = await until_listed(two, "hall")
        assert (details["node"], details["via"]) == ("one", "whip")
        async with playing(at_two, "/whep/hall") as (player, played):
            await player.packets.wait_for(50)
            assert set(player.packets.payloads()) <= set(PAYLOADS)
            assert (await at_one.ask("DELETE", played.location)).status == 200
            await receivers_become(two, 0)
        saying.cancel()
        assert (await at_two.ask("DELETE", published.location)).status == 200
        await until_listed(two)
    await until_listed(one)


async def test_who_hears_a_voice_is_counted_at_all_nodes(one: RunningServer, two: RunningServer) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(talking(one.ws_url, "kitchen", payloads(50)))
        await until_listed(two, "kitchen")
        for server in (one, two, two):
            await stack.enter_async_context(voice_receiver(server.ws_url, "kitchen"))
        player = await stack.enter_async_context(aiohttp.ClientSession())
        await stack.enter_async_context(player.get(two.audio_url("/stream/kitchen.mp3")))
        for server in (one, two):

            async def is_counted(server: RunningServer = server) -> bool:
                (details,) = await until_listed(server, "kitchen")
                return (details["receivers"], details["listeners"]) == (3, 1)

            await until_true(is_counted)


async def test_a_voice_is_recorded_by_the_node_that_has_it(
    daemons: tuple[RedisServer, list[RunningServer]],
) -> None:
    async with AsyncExitStack() as stack:
        config = {"recording": {"mode": "always"}}
        a, b = [await stack.enter_async_context(node(daemons[0], name, config)) for name in ("a", "b")]
        async with talking(a.ws_url, "kitchen", payloads(50)):

            async def is_marked() -> bool:
                return bool((await until_listed(b, "kitchen"))[0]["recording"])

            await until_true(is_marked)
            counts = [(await get_json(server.url("/health")))["recording"]["active"] for server in (a, b)]
            assert counts == [1, 0]
