"""Registries on a real Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import pytest_asyncio

from tests.support.cluster import nodes
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import RunningServer
from voice_streaming.cluster.entries import Lease, NodeEntry, StreamEntry
from voice_streaming.cluster.registry import Registry, RegistryObserver
from voice_streaming.process.failures import Failures
from voice_streaming.settings.model import ClusterSettings

DEADLINE_S = 20.0


class Told(RegistryObserver):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def on_lease(self, lease: Lease) -> None:
        self.events.append(("lease", lease.entry.stream_id))

    def on_released(self, lease: Lease) -> None:
        self.events.append(("released", lease.entry.stream_id))

    def on_gone(self, lease: Lease) -> None:
        self.events.append(("gone", lease.entry.stream_id))

    def on_lost(self, lease: Lease) -> None:
        self.events.append(("lost", lease.entry.stream_id))

    def on_quiet(self, room_key: str, left_s: float) -> None:
        self.events.append(("quiet", (room_key, left_s)))


class Member:
    """One node's registry, and what it told."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.failures = Failures()
        self.node = NodeEntry(secrets.token_hex(4), name, f"http://127.0.0.1:1{name[-1:].encode()[0]:03}")
        self.registry = Registry(ClusterSettings(**settings), self.node, self.failures)
        self.told = Told()
        self.registry.observe(self.told)
        self.task = asyncio.create_task(self.registry.run())

    async def close(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.registry.close()

    async def crash(self) -> None:
        """As a process that is killed: nothing is given back."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        self.registry.is_connected = False
        self.registry.leases.own.clear()


def voice(name: str, **fields: Any) -> StreamEntry:
    return StreamEntry(name, name, live=True, **fields)


async def until(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Looks until it holds; TimeoutError if it does not."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


class Cluster:
    """Members of one registry."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.members: list[Member] = []

    async def member(self, url: str | None = None, *, connected: bool = True, **settings: Any) -> Member:
        settings.setdefault("url", url or self.redis.url)
        member = Member(f"node-{len(self.members)}", **settings)
        self.members.append(member)
        if connected:
            await until(lambda: member.registry.is_connected)
        return member


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        made = Cluster(redis)
        yield made
        await asyncio.gather(*(member.close() for member in made.members))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemons() -> AsyncIterator[tuple[RedisServer, list[RunningServer]]]:
    """Their Redis, and two daemons, `one` and `two`."""
    async with nodes("one", "two", config={"webrtc": {"resume_grace_s": 2}}) as made:
        yield made


@pytest.fixture
def one(daemons: tuple[RedisServer, list[RunningServer]]) -> RunningServer:
    return daemons[1][0]


@pytest.fixture
def two(daemons: tuple[RedisServer, list[RunningServer]]) -> RunningServer:
    return daemons[1][1]
