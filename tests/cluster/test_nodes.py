"""Daemons with one set of streams: real processes, a real Redis, real WebRTC."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.cluster import cluster_of, node, nodes, until_listed
from tests.support.live_streams import payloads
from tests.support.redis_server import RedisServer
from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import RunningServer
from tests.support.signalling import signalling
from tests.support.talking import talking

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[tuple[RedisServer, list[RunningServer]]]:
    async with nodes("one", "two") as made:
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
