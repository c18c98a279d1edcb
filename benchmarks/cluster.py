"""What a second node costs, and what becomes of voices when nodes and Redis fail. See benchmarks/README.md.

    python benchmarks/cluster.py                             in about three minutes
    python benchmarks/cluster.py --away 10 --receivers 50    sooner

It measures and prints; it never judges. Everything runs on 127.0.0.1, with a Redis of its own.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median, quantiles
from typing import Any

import aiohttp
import command
import machine
import signalling
from command import Cores, share_out_cores
from house import House
from player import Player
from redis_process import RedisProcess
from rounds import SERVER
from server_process import ServerProcess

_SETTLE_S = 1.0
_STREAM = "kitchen"
_DEADLINE_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the window in which delays are measured")
    parser.add_argument("--times", type=int, default=20, help="how often what happens once is repeated")
    parser.add_argument("--receivers", type=int, default=200, help="receivers of one node, for their cost")
    parser.add_argument("--away", type=float, default=60.0, help="seconds for which Redis is away")
    options = parser.parse_args()
    cores = share_out_cores()
    return command.run(lambda: asyncio.run(_run(options, cores)), cores)


async def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    print("| figure | measured | goal |\n|---|---|---|")
    redis = RedisProcess()
    try:
        async with signalling.open_client() as http:
            nodes = [_node(redis, name, core) for name, core in zip("abc", _cores_of_nodes(cores), strict=False)]
            try:
                houses = [House(http, node) for node in nodes]
                await _until_known(http, nodes)
                await _delays(options, *houses[:2])
                await _begins(options, *houses[:2])
                await _failing_redis(options, redis, *houses[:2])
                await _killed(nodes[0], *houses)
            finally:
                for node in nodes:
                    node.stop()
            await _cost(options, http, redis, cores)
    finally:
        redis.stop()
    return 0


def _cores_of_nodes(cores: Cores) -> list[int]:
    """One for each as far as there are any; the load's is shared where there are but two."""
    first_client = min(cores.clients)
    return [cores.server, first_client, cores.server]


def _node(redis: RedisProcess, name: str, core: int) -> ServerProcess:
    return ServerProcess(SERVER, core, cluster={"url": redis.url, "node_name": name})


async def _health(http: aiohttp.ClientSession, node: ServerProcess) -> Any:
    async with http.get(f"{node.url}/health") as answer:
        return await answer.json()


async def _until_known(http: aiohttp.ClientSession, nodes: Sequence[ServerProcess]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        for node in nodes:
            while len((await _health(http, node))["cluster"]["nodes"]) < len(nodes) - 1:  # noqa: ASYNC110 - asked
                await asyncio.sleep(0.05)


async def _delays(options: argparse.Namespace, near: House, far: House) -> None:
    """Of the same packets: how much later each came through the second node."""
    async with near.talker(_STREAM) as talker:
        talker.begin()
        await _until_listed(far, _STREAM)
        async with _player(near, _STREAM) as direct, _player(far, _STREAM) as through:
            await through.until_first()
            await asyncio.sleep(_SETTLE_S)
            direct.arrived_s.clear()
            await _tick(options.seconds, direct, through)
            added_ms = [
                1000 * (through.arrived_s[number] - arrived_s)
                for number, arrived_s in direct.arrived_s.items()
                if number in through.arrived_s
            ]
    cuts = quantiles(added_ms, n=100)
    print(f"| added by the second node, p50 / p99 | {median(added_ms):.2f} / {cuts[98]:.2f} ms | 1.5 / 5 ms |")


async def _begins(options: argparse.Namespace, near: House, far: House) -> None:
    """Streams that begin here and are known there, and their first packet there."""
    known_ms, first_ms = [], []
    for number in range(options.times):
        name = f"voice {number}"
        async with far.watcher() as there, near.watcher() as here, near.talker(name) as talker:
            told = asyncio.gather(_told(here, "stream_available"), _told(there, "stream_available"))
            talker.begin()
            here_s, there_s = await told
            known_ms.append(1000 * (there_s - here_s))
            asked_s = time.time()
            async with _player(far, name, decrypt=False) as player:
                first_ms.append(1000 * (await player.until_first() - asked_s))
    print(f"| known on the other node after, p50 / max | {median(known_ms):.1f} / {max(known_ms):.1f} ms | 50 ms |")
    print(
        f"| first receiver there to first RTP, p50 / max | {median(first_ms):.0f} / {max(first_ms):.0f} ms | 150 ms |"
    )


async def _failing_redis(options: argparse.Namespace, redis: RedisProcess, near: House, far: House) -> None:
    async with near.talker(_STREAM) as talker:
        talker.begin()
        await _until_listed(far, _STREAM)
        async with _player(far, _STREAM, decrypt=False) as player:
            await player.until_first()
            for what in ("emptied", "restarted", f"away for {options.away:.0f} s"):
                player.note_numbers()
                await asyncio.sleep(_SETTLE_S)
                if what == "emptied":
                    await asyncio.to_thread(redis.ask, "flushall")
                else:
                    redis.kill()
                    await _tick(options.away if "away" in what else 0.5, player)
                async with near.talker(f"new, {what}") as late:
                    late.begin()
                    await asyncio.sleep(_SETTLE_S)
                    if what != "emptied":
                        await asyncio.to_thread(redis.start)
                    back_s = time.monotonic()
                    await _until_listed(far, f"new, {what}")
                    found_s = time.monotonic() - back_s
                    await _tick(5, player)
                lost, longest_s = player.noted()
                print(
                    f"| Redis {what}: packets lost; longest gap; a new stream is found after | {lost} of "
                    f"{player.noted_packets}; {1000 * longest_s:.0f} ms; {found_s:.2f} s | 0; ; 5 s |"
                )


async def _killed(victim: ServerProcess, near: House, far: House, third: House) -> None:
    async with contextlib.AsyncExitStack() as stack:
        talker = await stack.enter_async_context(near.talker(_STREAM))
        talker.begin()
        await _until_listed(third, _STREAM)
        player = await stack.enter_async_context(_player(third, _STREAM, decrypt=False))
        await player.until_first()
        victim.kill()
        killed_s = time.time()
        await asyncio.sleep(0.1)  # What was on its way.
        player.await_next()
        resumed = await stack.enter_async_context(far.talker(_STREAM, resume=talker.session.resume_key))
        resumed.begin()
        heard_s = await player.until_first() - killed_s
    print(f"| node killed: its talker back on another, heard on a third (asked at once) | {heard_s:.2f} s | 5 s |")


async def _cost(options: argparse.Namespace, http: aiohttp.ClientSession, redis: RedisProcess, cores: Cores) -> None:
    """By turns, three times."""
    alone = ServerProcess(SERVER, cores.server)
    clustered = _node(redis, "d", cores.server)
    other = _node(redis, "e", min(cores.clients))
    try:
        seen: dict[str, list[float]] = {"alone": [], "in a cluster": []}
        async with contextlib.AsyncExitStack() as stack:
            windows = {}
            for kind, server in (("alone", alone), ("in a cluster", clustered)):
                house = House(http, server)
                talker = await stack.enter_async_context(house.talker(_STREAM))
                players = [
                    await stack.enter_async_context(house.listener(None, follow=True)) for _ in range(options.receivers)
                ]
                windows[kind] = (server, talker, players)
            for _ in range(3):
                for kind, (server, talker, players) in windows.items():
                    talker.begin()
                    await _tick(_SETTLE_S, *players)
                    before, packets = server.read(), sum(player.packets for player in players)
                    await _tick(8, *players)
                    used_s = server.read().cpu_s - before.cpu_s
                    seen[kind].append(1e6 * used_s / (sum(player.packets for player in players) - packets))
                    talker.stop()
    finally:
        for server in (alone, clustered, other):
            server.stop()
    text = " / ".join(f"{median(values):.1f}" for values in seen.values())
    print(f"| us a packet to each of {options.receivers} receivers, alone / in a cluster | {text} | equal |")


@contextlib.asynccontextmanager
async def _player(house: House, name: str, *, decrypt: bool = True) -> AsyncIterator[Player]:
    async with house.listener(name) as player:
        player.decrypt(decrypt)
        yield player


async def _tick(seconds: float, *players: Player) -> None:
    """Lets time pass in which the players answer checks."""
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 0:
        for player in players:
            player.peer.tick(time.monotonic())
        await asyncio.sleep(min(left_s, 1.0))


async def _told(socket: aiohttp.ClientWebSocketResponse, kind: str) -> float:
    """Monotonic seconds at which the message came."""
    async for frame in socket:
        if frame.json()["type"] == kind:
            return time.monotonic()
    raise ConnectionError("the server closed its socket")


async def _until_listed(house: House, name: str) -> None:
    async with asyncio.timeout(_DEADLINE_S), house.watcher() as socket:
        async for frame in socket:
            message = frame.json()
            names = [one["name"] for one in message.get("details", [])] + [message.get("name")]
            if name in names:
                return


if __name__ == "__main__":
    sys.exit(main())
