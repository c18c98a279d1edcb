"""A registry whose Redis is slow, silent, somewhere else after a failover, or closed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster, Member, until, voice
from tests.support.availability import require_program
from tests.support.ports import free_port
from tests.support.process import child_process
from tests.support.redis_proxy import redis_proxy
from tests.support.redis_server import RedisServer, redis_folder, redis_server
from tests.support.server import REPOSITORY
from voice_streaming.cluster.registry import PROBLEM, RENEWAL_S
from voice_streaming.cluster.scripts import LEASE_MS
from voice_streaming.network.certificates import make_authority, make_server_identity
from voice_streaming.process.refusal import Refused

pytestmark = [pytest.mark.slow, pytest.mark.any_python]


def knows(member: Member, name: str) -> bool:
    return name in member.registry.leases.others


async def test_a_redis_that_answers_after_200_ms_will_do(cluster: Cluster) -> None:
    async with redis_proxy(cluster.redis.port) as proxy:
        slow, fast = await cluster.member(proxy.url), await cluster.member()
        proxy.delay_s = 0.2
        begun_s = time.monotonic()
        await slow.registry.claim(voice("kitchen"), "")
        await until(lambda: knows(fast, "kitchen"))
        await fast.registry.claim(voice("attic"), "")
        await until(lambda: knows(slow, "attic"))
        assert time.monotonic() - begun_s < 5
        for name in ("kitchen", "attic"):
            with pytest.raises(Refused):
                await (slow if name == "attic" else fast).registry.claim(voice(name), "")
        # For longer than a lease: so many renewals.
        scripts_run = slow.registry.operations
        await until(lambda: slow.registry.operations > scripts_run + LEASE_MS / 1000 / RENEWAL_S)
        assert slow.registry.latency_s > 0.15
        assert knows(fast, "kitchen")
        assert slow.registry.is_connected
        assert slow.node.id in fast.registry.nodes
        await slow.close()


async def test_a_subscription_that_is_silent_is_made_anew(cluster: Cluster) -> None:
    async with redis_proxy(cluster.redis.port) as proxy:
        one, other = await cluster.member(proxy.url), await cluster.member()
        proxy.is_deaf = True
        await other.registry.claim(voice("kitchen"), "")
        await until(lambda: one.registry.reconnects > 0)
        proxy.is_deaf = False
        await until(lambda: knows(one, "kitchen"))
        assert one.told.events == [("lease", "kitchen")]
        await one.close()


async def test_whoever_joins_while_others_change_reads_but_a_few_times(cluster: Cluster) -> None:
    """Numbers of changes that were read already are told later, on the other connection."""
    one = await cluster.member()
    for number in range(50):
        await one.registry.claim(voice(f"voice {number}"), "")

    async def change() -> None:
        for step in range(200):
            one.registry.describe(voice(f"voice {step % 50}", paused=step % 2 == 0))
            await asyncio.sleep(0.002)

    changing = asyncio.create_task(change())
    joined = [await cluster.member() for _ in range(5)]
    await changing
    await until(lambda: all(len(member.registry.leases.others) == 50 for member in joined))
    await until(lambda: len({str(sorted(m.registry.leases.others.items())) for m in joined}) == 1)
    assert max(member.registry.readings for member in joined) <= 5


@asynccontextmanager
async def sentinel(master: RedisServer, folder: Path) -> AsyncIterator[int]:
    """A Sentinel that watches the master and knows its replica; yields its port."""
    program, port = require_program("redis-server"), free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor voices 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds voices 1000\nsentinel failover-timeout voices 5000\n"
    )
    async with child_process([program, configuration, "--sentinel"]) as process:
        await process.wait_for_log("+slave ")
        yield port


async def test_after_a_failover_by_sentinel_it_goes_on_with_the_new_master(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(redis_folder())
        async with master.running():
            replica = await stack.enter_async_context(redis_server("--replicaof", "127.0.0.1", str(master.port)))
            await until_replicated(replica)
            port = await stack.enter_async_context(sentinel(master, tmp_path))
            cluster = Cluster(master)
            members = [await cluster.member("redis://voices", sentinels=(f"127.0.0.1:{port}",)) for _ in range(2)]
            one, other = members
            await one.registry.claim(voice("kitchen"), "")
            await until(lambda: knows(other, "kitchen"))
        await until(lambda: not one.registry.is_connected)
        assert knows(other, "kitchen")
        await until(lambda: one.registry.is_connected and other.registry.is_connected)
        await one.registry.claim(voice("attic"), "")
        await until(lambda: knows(other, "attic"))
        assert knows(other, "kitchen")
        assert one.told.events == []
        await asyncio.gather(one.close(), other.close())


async def until_replicated(replica: RedisServer) -> None:
    async with replica.client() as client, asyncio.timeout(20):
        while (await client.info("replication")).get("master_link_status") != "up":  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)


async def test_redis_over_tls_is_checked_against_the_authority(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = make_authority("Redis", now)
    (tmp_path / "authority.pem").write_bytes(authority.certificate_pem())
    (tmp_path / "server.pem").write_bytes(make_server_identity(authority, ["127.0.0.1"], now).to_pem())
    port, files = free_port(), {name: str(tmp_path / f"{name}.pem") for name in ("server", "authority")}
    options = ["--tls-port", str(port), "--tls-cert-file", files["server"], "--tls-key-file", files["server"]]
    async with redis_server(*options, "--tls-ca-cert-file", files["authority"], "--tls-auth-clients", "no") as redis:
        cluster, url = Cluster(redis), f"rediss://127.0.0.1:{port}"
        member = await cluster.member(url, ca_file=files["authority"])
        stranger = await cluster.member(url, connected=False)
        await until(lambda: "certificate" in stranger.failures.problems.get(PROBLEM, "").lower())
        assert member.registry.is_connected
        await asyncio.gather(member.close(), stranger.close())


async def test_the_documented_rights_of_a_user_of_redis_are_enough(cluster: Cluster) -> None:
    found = re.search(r"```acl\n(.*?)```", (REPOSITORY / "docs" / "cluster.md").read_text(), re.DOTALL)
    assert found is not None
    async with cluster.redis.client() as client:
        await client.execute_command(*found[1].split())  # type: ignore[no-untyped-call]
    one = await cluster.member(user="voice", password="password")
    other = await cluster.member(user="voice", password="password")
    await one.registry.claim(voice("kitchen"), "")
    await until(lambda: knows(other, "kitchen"))
    await one.registry.set_quiet("office", 60)
    await until(lambda: ("quiet", ("office", 60.0)) in other.told.events)
    one.registry.release("kitchen")
    await until(lambda: not knows(other, "kitchen"))
    assert len(await one.registry.read_nodes()) == 2
    without = await cluster.member(connected=False, user="voice", password="password", prefix="other")
    await until(lambda: "ACL" in without.failures.problems.get(PROBLEM, ""))
