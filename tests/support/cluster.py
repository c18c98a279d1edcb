"""A cluster of daemons on loopback, with a Redis of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.support.live_streams import get_json
from tests.support.redis_server import RedisServer, redis_server
from tests.support.rtc_client import LOOPBACK, gather_on_loopback, new_peer
from tests.support.server import RunningServer, merge_config, running_server

DEADLINE_S = 20.0


def node_config(redis: RedisServer, name: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return merge_config({"cluster": {"url": redis.url, "node_name": name}}, config or {})


@asynccontextmanager
async def node(
    redis: RedisServer, name: str, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[RunningServer]:
    """A daemon in the cluster of that Redis."""
    async with running_server(node_config(redis, name, config), **options) as server:
        yield server


async def until_true(condition: Callable[[], Awaitable[object]], timeout_s: float = DEADLINE_S) -> None:
    """Asks until it holds; TimeoutError if it does not."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - a server that is asked tells nothing by itself
            await asyncio.sleep(0.02)


async def until_said(server: RunningServer, field: str, value: object) -> None:
    """Waits until `/health` says so of the cluster."""

    async def is_said() -> bool:
        return bool((await cluster_of(server))[field] == value)

    await until_true(is_said)


async def until_known(server: RunningServer, *names: str) -> None:
    """Waits until the server knows these other nodes."""
    await until_said(server, "nodes", sorted(names))


async def until_listed(server: RunningServer, *names: str) -> list[dict[str, Any]]:
    """Waits until just these streams are live there, own ones and others; what is said of them."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            details: list[dict[str, Any]] = (await get_json(server.url("/stream/status")))["details"]
            if {one["name"] for one in details} == set(names):
                return details
            await asyncio.sleep(0.01)


async def cluster_of(server: RunningServer) -> dict[str, Any]:
    """What `/health` says of the cluster."""
    found: dict[str, Any] = (await get_json(server.url("/health")))["cluster"]
    return found


@asynccontextmanager
async def nodes(
    *names: str, config: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[RedisServer, list[RunningServer]]]:
    """So many daemons that know each other, and their Redis."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        servers = await asyncio.gather(*(stack.enter_async_context(node(redis, name, config)) for name in names))
        for name, server in zip(names, servers, strict=True):
            await until_known(server, *(other for other in names if other != name))
        yield redis, list(servers)


async def until_only(get: Callable[[], list[bytes]], wanted: list[bytes]) -> None:
    """Waits until the newest packets are all of these."""
    async with asyncio.timeout(10):
        while not (newest := get()[-5:]) or not set(newest) <= set(wanted):  # noqa: ASYNC110 - a condition
            await asyncio.sleep(0.05)


async def offer_to_receive(address: str = LOOPBACK) -> str:
    """The SDP of a WHEP player that will never connect."""
    peer = new_peer()
    peer.addTransceiver("audio", direction="recvonly")
    offer = await peer.createOffer()
    gather_on_loopback(peer, address)
    await peer.setLocalDescription(offer)
    sdp = peer.localDescription.sdp
    await peer.close()
    return sdp
