"""What becomes of voices when nodes die, freeze, or lose Redis: real processes, a real Redis, real WebRTC."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from contextlib import AsyncExitStack

import pytest

from tests.support import clock_set_back
from tests.support.cluster import (
    cluster_of,
    node,
    until_known,
    until_listed,
    until_only,
    until_said,
)
from tests.support.live_streams import get_json, payloads
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_folder
from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import REPOSITORY, RunningServer
from tests.support.signalling import SignallingError, signalling
from tests.support.talking import talking

pytestmark = [pytest.mark.slow, pytest.mark.any_python, pytest.mark.asyncio(loop_scope="module")]


async def test_a_talker_whose_node_died_goes_on_elsewhere(
    one: RunningServer, two: RunningServer, daemons: tuple[RedisServer, list[RunningServer]]
) -> None:
    """And whoever hears it goes on hearing it, by the same connection."""
    said, other = payloads(50), payloads(50)
    async with (
        node(daemons[0], "three", expected_exit_code=-signal.SIGKILL) as three,
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
    one: RunningServer, daemons: tuple[RedisServer, list[RunningServer]]
) -> None:
    async with (
        node(daemons[0], "three", expected_exit_code=-signal.SIGKILL) as three,
        talking(three.ws_url, "kitchen", payloads(50)),
        signalling(one.ws_url) as client,
    ):
        await until_listed(one, "kitchen")
        three.process.send_signal(signal.SIGKILL)
        await client.expect("stream_paused", timeout_s=15)
        await client.expect("stream_ended", timeout_s=15)


async def test_a_frozen_node_gives_up_its_stream_when_it_wakes(
    one: RunningServer, daemons: tuple[RedisServer, list[RunningServer]]
) -> None:
    said, other = payloads(50), payloads(50)
    async with node(daemons[0], "three") as three, talking(three.ws_url, "kitchen", said) as frozen:
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
    daemons: tuple[RedisServer, list[RunningServer]],
) -> None:
    redis, (one, _) = daemons
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
        await until_said(one, "unreachable", ["pretender"])
        # What is not there any more is no problem.
        await until_said(one, "unreachable", [])


async def test_a_node_starts_alone_and_joins_when_redis_is_there() -> None:
    async with (
        redis_folder() as redis,
        node(redis, "early") as early,
        voice_sender(early.ws_url, name="kitchen") as sender,
    ):
        saying = asyncio.ensure_future(sender.send(itertools.cycle(payloads(50))))
        await until_listed(early, "kitchen")
        health = await get_json(early.url("/health"))
        assert (health["status"], health["cluster"]["registry"]) == ("degraded", "away")
        assert "Redis cannot be reached" in health["problems"]["cluster"]
        async with redis.running(), node(redis, "late") as late:
            (details,) = await until_listed(late, "kitchen")
            assert details["node"] == "early"
            assert (await get_json(early.url("/health")))["status"] == "ok"
        saying.cancel()


async def test_nodes_whose_clocks_are_an_hour_apart_get_along(
    one: RunningServer, daemons: tuple[RedisServer, list[RunningServer]]
) -> None:
    async with AsyncExitStack() as stack:
        program = REPOSITORY / "tests" / "support" / "clock_set_back.py"
        past = await stack.enter_async_context(node(daemons[0], "past", program=program))
        past.process.send_signal(signal.SIGUSR1)
        await past.process.wait_for_log(clock_set_back.SAID)
        said, other = payloads(50), payloads(50)
        first = await stack.enter_async_context(talking(past.ws_url, "kitchen", said))
        await until_listed(one, "kitchen")
        receiver = await stack.enter_async_context(voice_receiver(one.ws_url, "kitchen"))
        await receiver.packets.wait_for(20)
        client = await stack.enter_async_context(signalling(one.ws_url))
        await client.send("start_sending", name="kitchen")
        assert (await client.expect("error"))["code"] == "name_taken"
        # There and back again: the clock that is behind gives out no lower epoch.
        for server, words in ((one, other), (past, said)):
            sender = await stack.enter_async_context(voice_sender(server.ws_url, name="kitchen", take_over=True))
            stack.callback(asyncio.ensure_future(sender.send(itertools.cycle(words))).cancel)
            await until_only(receiver.packets.payloads, words)
        assert (await first.signalling.expect("stream_ended"))["reason"] == "replaced"
