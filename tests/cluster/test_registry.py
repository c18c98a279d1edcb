"""Registries of several nodes on a real Redis."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace

from tests.cluster.conftest import Cluster, Member, until, voice
from tests.support.redis_server import redis_folder, redis_server
from voice_streaming.cluster.entries import RoomEntry
from voice_streaming.cluster.registry import PROBLEM, Registry, RegistryUnavailable
from voice_streaming.process.refusal import Refused

pytestmark = [pytest.mark.any_python]


def knows(member: Member, name: str) -> bool:
    return name in member.registry.leases.others


async def test_a_stream_of_one_node_is_known_on_the_other_at_once(cluster: Cluster) -> None:
    one, other = await cluster.member(), await cluster.member()
    begun_s = time.monotonic()
    await one.registry.claim(voice("kitchen"), "")
    await until(lambda: knows(other, "kitchen"))
    assert time.monotonic() - begun_s < 1
    assert other.registry.leases.others["kitchen"].node == one.node.id
    one.registry.describe(voice("kitchen", paused=True))
    await until(lambda: other.registry.leases.others["kitchen"].entry.paused)
    one.registry.release("kitchen")
    await until(lambda: not knows(other, "kitchen"))
    assert other.told.events == [("lease", "kitchen"), ("lease", "kitchen"), ("released", "kitchen")]
    assert one.told.events == []


async def test_whoever_comes_later_learns_what_is_there(cluster: Cluster) -> None:
    one = await cluster.member()
    await one.registry.claim(voice("kitchen"), "")
    one.registry.describe_node(replace(one.node, rooms=(RoomEntry("Kitchen", 2, 1),)))
    await one.registry.set_quiet("office", 60)
    other = await cluster.member()
    assert knows(other, "kitchen")
    assert ("quiet", ("office", pytest.approx(60, abs=5))) in other.told.events
    await until(lambda: one.node.id in other.registry.nodes)
    await until(lambda: other.registry.nodes[one.node.id].rooms == (RoomEntry("Kitchen", 2, 1),))
    await until(lambda: other.node.id in one.registry.nodes)
    assert one.registry.secrets[0] == other.registry.secrets[0]


async def test_a_name_is_one_nodes(cluster: Cluster) -> None:
    one, other = await cluster.member(), await cluster.member()
    await one.registry.claim(voice("Kitchen"), "a1")
    with pytest.raises(Refused, match="in use") as refused:
        await other.registry.claim(voice("kitchen"), "b2")
    assert refused.value.code == "name_taken"
    with pytest.raises(Refused):
        await other.registry.claim(voice("kitchen"), "b2", proof="c3")
    await other.registry.claim(voice("kitchen"), "b2", proof="a1")
    await until(lambda: ("lost", "kitchen") in one.told.events)
    assert "kitchen" not in one.registry.leases.own
    await one.registry.claim(voice("kitchen"), "", takes=True)
    await until(lambda: ("lost", "kitchen") in other.told.events)


async def test_of_two_claims_at_the_same_instant_one_wins(cluster: Cluster) -> None:
    """A thousand times."""
    one, other = await cluster.member(), await cluster.member()

    async def claim(member: Member, name: str) -> bool:
        try:
            await member.registry.claim(voice(name), "")
            return True
        except Refused:
            return False

    wins = {True: 0, False: 0}
    for first in range(0, 1000, 10):
        names = [f"name {number}" for number in range(first, first + 10)]
        results = await asyncio.gather(*(claim(member, name) for name in names for member in (one, other)))
        assert [sum(pair) for pair in zip(results[::2], results[1::2], strict=True)] == [1] * 10
        for won in results[::2]:
            wins[won] += 1
        for member in (one, other):
            for name in list(member.registry.leases.own):
                member.registry.release(name)
    assert wins[True] + wins[False] == 1000


async def test_a_node_that_died_is_gone_with_its_lease(cluster: Cluster) -> None:
    one, other = await cluster.member(), await cluster.member()
    await one.registry.claim(voice("kitchen"), "a1")
    await until(lambda: one.node.id in other.registry.nodes and knows(other, "kitchen"))
    await one.crash()
    with pytest.raises(Refused):
        await other.registry.claim(voice("kitchen"), "")
    await until(lambda: one.node.id not in other.registry.nodes)
    await other.registry.claim(voice("kitchen"), "")
    assert "kitchen" in other.registry.leases.own


async def test_what_redis_forgot_is_told_anew(cluster: Cluster) -> None:
    one, other = await cluster.member(), await cluster.member()
    await one.registry.claim(voice("kitchen"), "")
    await until(lambda: knows(other, "kitchen"))
    epoch = one.registry.leases.own["kitchen"].epoch
    async with cluster.redis.client() as client:
        await client.flushall()
    late = await cluster.member()
    await until(lambda: knows(late, "kitchen") and one.node.id in late.registry.nodes)
    assert late.registry.leases.others["kitchen"].epoch == epoch
    await until(lambda: knows(other, "kitchen"))
    assert one.told.events == []
    assert "kitchen" in one.registry.leases.own
    # Numbers that begin again at 1 are read anew, not passed over.
    await one.registry.claim(voice("attic"), "")
    await until(lambda: knows(other, "attic"))


async def test_redis_may_go_and_come_back_empty() -> None:
    async with redis_folder() as redis:
        cluster = Cluster(redis)
        async with redis.running():
            one, other = await cluster.member(), await cluster.member()
            await one.registry.claim(voice("kitchen"), "")
            await until(lambda: knows(other, "kitchen"))
        await until(lambda: not one.registry.is_connected and not other.registry.is_connected)
        assert "Redis cannot be reached" in one.failures.problems[PROBLEM]
        assert knows(other, "kitchen")
        with pytest.raises(RegistryUnavailable):
            await one.registry.claim(voice("attic"), "")
        async with redis.running():
            back_s = time.monotonic()
            await until(lambda: one.registry.is_connected and other.registry.is_connected)
            await until(lambda: knows(other, "kitchen"))
            await one.registry.claim(voice("attic"), "")
            await until(lambda: knows(other, "attic"))
            assert time.monotonic() - back_s < 5
            assert PROBLEM not in one.failures.problems
            assert one.told.events == []
            await asyncio.gather(one.close(), other.close())


async def test_every_key_expires_and_lies_under_one_hash_tag(cluster: Cluster) -> None:
    one = await cluster.member()
    await one.registry.claim(voice("kitchen"), "a1")
    await one.registry.set_quiet("office", 60)
    async with cluster.redis.client() as client:
        keys = [str(key) for key in await client.keys()]
        assert {key.split(":")[0] for key in keys} == {"{voice}"}
        assert len(keys) == 8, keys
        for key in keys:
            assert await client.pttl(key) > 0, key


async def test_two_clusters_share_a_redis(cluster: Cluster) -> None:
    one, other = await cluster.member(prefix="one"), await cluster.member(prefix="other")
    await one.registry.claim(voice("kitchen"), "")
    await other.registry.claim(voice("kitchen"), "")
    assert not one.registry.leases.others


async def test_entries_that_are_none_are_passed_over(cluster: Cluster) -> None:
    one = await cluster.member()
    async with cluster.redis.client() as client:
        for key, text in {
            "lease:kitchen": "not a lease",
            "lease:attic": '99\nabcdef01\n\n{"stream_id": "other", "name": "other"}',
            "lease:hall": f"9{'9' * 30}\nabcdef01\n\n" + '{"stream_id": "hall", "name": "hall"}',
            "node:abcdef01": "[" * 10_000,
        }.items():
            await client.set("{voice}:" + key, text, ex=60)
            kind, _, name = key.partition(":")
            await client.zadd("{voice}:" + kind + "s", {name: time.time() * 2000})
        for message in (
            "",
            "x",
            "1",
            "\u00b2\nlease\nx",
            "9" * 5000 + "\nlease\nx",
            "9999\n",
            "9999\nlease",
            "9999\nlease\nkitchen\n1\n2",
        ):
            await client.publish("{voice}:changes", message)
    other = await cluster.member()
    await other.registry.claim(voice("garden"), "")
    await until(lambda: knows(one, "garden"))
    assert set(one.registry.leases.others) == {"garden"}
    assert other.registry.refused_entries >= 4
    assert one.registry.is_connected


async def test_a_wrong_password_is_named_and_not_shown() -> None:
    async with redis_server("--requirepass", "the-right-one") as redis:
        cluster = Cluster(redis)
        member = await cluster.member(connected=False, password="the-wrong-one")
        await until(lambda: PROBLEM in member.failures.problems)
        problem = member.failures.problems[PROBLEM]
        assert "cluster.password" in problem
        assert "wrong-one" not in problem
        right = await cluster.member(password="the-right-one")
        assert right.registry.is_connected
        await asyncio.gather(member.close(), right.close())


async def test_a_redis_that_is_too_old_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """No old Redis runs here: it says what one would."""
    member = await cluster.member()

    async def information(*_: object) -> dict[str, str]:
        return {"redis_version": "6.0.16"}

    await member.close()
    registry = Registry.__new__(Registry)
    registry.__dict__.update(member.registry.__dict__)
    monkeypatch.setattr(registry._client, "info", information)
    task = asyncio.create_task(registry.run())
    await until(lambda: "Redis 6.0.16 is too old: 6.2" in member.failures.problems.get(PROBLEM, ""))
    task.cancel()
