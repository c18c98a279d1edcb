"""Daemons with one set of streams: real processes, a real Redis, real WebRTC."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio

from tests.support.audio import Samples, encode_opus
from tests.support.cluster import cluster_of, node, nodes, until_known, until_listed
from tests.support.live_streams import payloads
from tests.support.matching import assert_same_speech
from tests.support.players import record
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_folder
from tests.support.rtc_client import VoiceReceiver, gather_on_loopback, new_peer, voice_receiver, voice_sender
from tests.support.server import RunningServer
from tests.support.signalling import Signalling, SignallingError, signalling
from tests.support.talking import talking

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[tuple[RedisServer, list[RunningServer]]]:
    async with nodes("one", "two", config={"webrtc": {"resume_grace_s": 2}}) as made:
        yield made


@pytest.fixture
def one(cluster: tuple[RedisServer, list[RunningServer]]) -> RunningServer:
    return cluster[1][0]


@pytest.fixture
def two(cluster: tuple[RedisServer, list[RunningServer]]) -> RunningServer:
    return cluster[1][1]


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


async def until_only(get: Callable[[], list[bytes]], wanted: list[bytes]) -> None:
    """Waits until the newest packets are all of these."""
    async with asyncio.timeout(10):
        while not (newest := get()[-5:]) or not set(newest) <= set(wanted):  # noqa: ASYNC110 - a condition
            await asyncio.sleep(0.05)


async def test_words_of_push_to_talk_are_heard_elsewhere_from_their_begin(
    one: RunningServer, two: RunningServer
) -> None:
    async with (
        voice_receiver(two.ws_url, follow=True) as receiver,
        voice_sender(one.ws_url, name="garden", talking=False) as sender,
    ):
        await until_pulled(two, 1)
        for _ in range(3):
            said = payloads(25)
            sending = asyncio.ensure_future(sender.send(said))
            await sender.signalling.send("set_talking", talking=True)
            await sending
            await until_only(receiver.packets.payloads, said[-5:])
            await sender.signalling.send("set_talking", talking=False)
            assert set(said) <= set(receiver.packets.payloads())
            await until_listed(two)


async def until_pulled(server: RunningServer, count: int) -> None:
    async with asyncio.timeout(10):
        while (await cluster_of(server))["pulls"] != count:  # noqa: ASYNC110 - the server tells when asked
            await asyncio.sleep(0.02)


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


async def test_players_hear_a_voice_of_another_node(one: RunningServer, two: RunningServer, speech: Samples) -> None:
    async with talking(one.ws_url, "hall", encode_opus(speech)):
        await until_listed(two, "hall")
        paths = ("/stream/hall.mp3", "/stream/hall.ogg", "/stream/latest.mp3")
        for recording in await asyncio.gather(*(record("ffmpeg", two.audio_url(p), seconds=4) for p in paths)):
            assert_same_speech(speech, recording)


async def test_a_node_is_asked_for_its_own_voices_alone_and_by_its_secret(
    one: RunningServer, two: RunningServer, cluster: tuple[RedisServer, list[RunningServer]]
) -> None:
    async with cluster[0].client() as client:
        secret = await client.get("{voice}:secret")
    assert isinstance(secret, str)
    offer = await offer_to_receive()
    async with talking(one.ws_url, "hall", payloads(50)), aiohttp.ClientSession() as http:
        await until_listed(two, "hall")
        for server, token, status in ((one, secret, 201), (two, secret, 409), (two, "another", 201)):
            headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"}
            async with http.post(server.url("/whep/hall"), data=offer, headers=headers) as response:
                assert response.status == status


async def offer_to_receive() -> str:
    peer = new_peer()
    peer.addTransceiver("audio", direction="recvonly")
    offer = await peer.createOffer()
    gather_on_loopback(peer)
    await peer.setLocalDescription(offer)
    sdp = peer.localDescription.sdp
    await peer.close()
    return sdp


async def test_a_talker_whose_node_died_goes_on_elsewhere(
    one: RunningServer, two: RunningServer, cluster: tuple[RedisServer, list[RunningServer]]
) -> None:
    """And whoever hears it goes on hearing it, by the same connection."""
    said, other = payloads(50), payloads(50)
    async with (
        node(cluster[0], "three", expected_exit_code=-signal.SIGKILL) as three,
        talking(three.ws_url, "kitchen", said) as sender,
    ):
        await until_listed(one, "kitchen")
        async with voice_receiver(one.ws_url, "kitchen") as receiver:
            await receiver.packets.wait_for(20)
            three.process.send_signal(signal.SIGKILL)
            killed_s = time.monotonic()
            async with voice_sender(two.ws_url, name="kitchen", resume=sender.resume_key) as second:
                saying = asyncio.ensure_future(second.send(itertools.cycle(other)))
                await until_only(receiver.packets.payloads, other)
                assert time.monotonic() - killed_s < 5
                saying.cancel()
            assert not [m for m in receiver.signalling.history if m["type"] == "stream_ended"]


async def test_the_streams_of_a_node_that_died_end(
    one: RunningServer, cluster: tuple[RedisServer, list[RunningServer]]
) -> None:
    async with (
        node(cluster[0], "three", expected_exit_code=-signal.SIGKILL) as three,
        talking(three.ws_url, "kitchen", payloads(50)),
        signalling(one.ws_url) as client,
    ):
        await until_listed(one, "kitchen")
        three.process.send_signal(signal.SIGKILL)
        await client.expect("stream_paused", timeout_s=15)
        await client.expect("stream_ended", timeout_s=15)


async def test_a_frozen_node_gives_up_its_stream_when_it_wakes(
    one: RunningServer, cluster: tuple[RedisServer, list[RunningServer]]
) -> None:
    said, other = payloads(50), payloads(50)
    async with node(cluster[0], "three") as three, talking(three.ws_url, "kitchen", said) as frozen:
        await until_listed(one, "kitchen")
        three.process.send_signal(signal.SIGSTOP)
        try:
            async with signalling(one.ws_url) as client:
                while True:
                    await client.send("start_sending", name="kitchen")
                    try:
                        await client.expect("sender_ready")
                        break
                    except SignallingError:
                        client.inbox.clear()
                        await asyncio.sleep(0.2)
        finally:
            three.process.send_signal(signal.SIGCONT)
        async with voice_sender(one.ws_url, name="kitchen") as sender:
            saying = asyncio.ensure_future(sender.send(itertools.cycle(other)))
            assert (await frozen.signalling.expect("stream_ended"))["reason"] == "replaced"
            async with voice_receiver(three.ws_url, "kitchen") as receiver:
                await receiver.packets.wait_for(10)
                await until_only(receiver.packets.payloads, other)
            saying.cancel()


async def test_voices_flow_while_redis_is_away_or_was_emptied(one: RunningServer, two: RunningServer) -> None:
    async with redis_folder() as redis, AsyncExitStack() as stack:
        async with redis.running() as running:
            a = await stack.enter_async_context(node(redis, "a"))
            b = await stack.enter_async_context(node(redis, "b"))
            await until_known(b, "a")
            said = payloads(400)
            sender = await stack.enter_async_context(talking(a.ws_url, "kitchen", said))
            await until_listed(b, "kitchen")
            receiver = await stack.enter_async_context(voice_receiver(b.ws_url, "kitchen"))
            await receiver.packets.wait_for(10)
            async with running.client() as client:
                await client.flushall()
            await receiver.packets.wait_for(150)
        await receiver.packets.wait_for(500)
        assert (await cluster_of(b))["registry"] == "away"
        # Whoever begins while Redis is away is heard at its own node, and everywhere when it is back.
        late = await stack.enter_async_context(talking(a.ws_url, "attic", payloads(50)))
        await until_listed(b, "kitchen")
        async with redis.running():
            back_s = time.monotonic()
            await until_listed(b, "kitchen", "attic")
            assert time.monotonic() - back_s < 5
            await receiver.packets.wait_for(len(receiver.packets) + 100)
            numbers = [packet.sequence for packet in receiver.packets]
            steps = {(after - before) & 0xFFFF for before, after in itertools.pairwise(numbers)}
            assert steps == {1}
            kinds = {message["type"] for message in receiver.signalling.history}
            assert not kinds & {"stream_ended", "stream_paused"}
            assert sender.signalling.socket.closed is late.signalling.socket.closed is False
            await stack.aclose()


async def test_nodes_take_no_certificate_but_the_one_that_the_registry_names(
    cluster: tuple[RedisServer, list[RunningServer]],
) -> None:
    redis, (one, _) = cluster
    port = free_port()
    config = {
        "server": {"tls": "auto", "tls_port": port},
        "cluster": {"advertise_url": f"https://127.0.0.1:{port}", "prefix": "voice"},
    }
    said = payloads(50)
    async with node(redis, "secure", config) as secure, talking(secure.ws_url, "safe", said):
        await until_listed(one, "safe")
        async with voice_receiver(one.ws_url, "safe") as receiver:
            await receiver.packets.wait_for(20)
        assert (await cluster_of(one))["unreachable"] == []
        async with redis.client() as client:
            entry = await client.get("{voice}:node:" + (await cluster_of(secure))["id"])
        assert isinstance(entry, str)
        claimed = json.loads(entry) | {"id": "0badc0de", "name": "pretender", "fingerprint": "00" * 32}
        async with redis.client() as client:
            await client.set("{voice}:node:0badc0de", json.dumps(claimed), px=4000)
            await client.zadd("{voice}:nodes", {"0badc0de": (time.time() + 4) * 1000})
            await client.publish("{voice}:changes", "999999999\nnode\n")
        async with asyncio.timeout(10):
            while (await cluster_of(one))["unreachable"] != ["pretender"]:  # noqa: ASYNC110 - it tells when asked
                await asyncio.sleep(0.05)
        # What is not there any more is no problem.
        async with asyncio.timeout(15):
            while (await cluster_of(one))["unreachable"]:  # noqa: ASYNC110 - it tells when asked
                await asyncio.sleep(0.1)
