"""What the registry of a cluster costs Redis: nodes that are stand-ins, with streams of their own and no media.

    python benchmarks/cluster_registry.py                    5, 10 and 20 nodes with ten streams each, in a minute

Real registries on a real Redis, on 127.0.0.1. Each node changes one of its streams every second. It measures and
prints; it never judges.
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
import time
from dataclasses import dataclass

import command
import machine
from command import share_out_cores
from msgspec.structs import replace
from redis_process import RedisProcess
from server_process import ROOT

sys.path.insert(0, str(ROOT))

from voice_streaming.cluster.entries import NodeEntry, StreamEntry
from voice_streaming.cluster.registry import Registry
from voice_streaming.process.failures import Failures
from voice_streaming.settings.model import ClusterSettings

_DEADLINE_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--streams", type=int, default=10, help="of each node")
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()
    return command.run(lambda: asyncio.run(_run(options)), share_out_cores())


async def _run(options: argparse.Namespace) -> int:
    print(machine.describe())
    print(
        "| nodes | streams | scripts a second | commands a second | Redis' CPU | Redis' memory | bytes a stream | "
        "messages a second to each node |\n|---|---|---|---|---|---|---|---|"
    )
    for nodes in options.nodes:
        redis = RedisProcess()
        try:
            await _measure(redis, nodes, options.streams, options.seconds)
        finally:
            redis.stop()
    return 0


@dataclass
class _StandIn:
    registry: Registry
    task: asyncio.Task[None]

    async def change(self, streams: list[StreamEntry]) -> None:
        """One stream a second."""
        number = 0
        while True:
            await asyncio.sleep(1)
            index = number % len(streams)
            streams[index] = replace(streams[index], paused=not streams[index].paused)
            self.registry.describe(streams[index])
            number += 1


async def _measure(redis: RedisProcess, nodes: int, streams: int, seconds: float) -> None:
    empty = int(redis.information("memory")["used_memory"])
    stand_ins = [_stand_in(redis.url, number) for number in range(nodes)]
    async with contextlib.AsyncExitStack() as stack:
        for number, one in enumerate(stand_ins):
            stack.push_async_callback(_end, one)
            await _until_connected(one.registry)
            entries = [StreamEntry(f"{number} {n}", f"{number} {n}", live=True) for n in range(streams)]
            for entry in entries:
                await one.registry.claim(entry, secrets.token_hex(32))
            changing = asyncio.create_task(one.change(entries))
            stack.callback(changing.cancel)
        await asyncio.sleep(2)
        before, begun_s = _read(redis, stand_ins), time.monotonic()
        await asyncio.sleep(seconds)
        after, passed_s = _read(redis, stand_ins), time.monotonic() - begun_s
        per_s = [(later - sooner) / passed_s for sooner, later in zip(before, after, strict=True)]
        memory = int(redis.information("memory")["used_memory"]) - empty
        missing = [one for one in stand_ins if len(one.registry.leases.others) != (nodes - 1) * streams]
        assert not missing, f"{len(missing)} nodes do not know all streams"
    print(
        f"| {nodes} | {nodes * streams} | {per_s[0]:.0f} | {per_s[1]:.0f} | {100 * per_s[2]:.1f} % | "
        f"{memory / 1024:.0f} KiB | {memory / nodes / streams:.0f} | {per_s[3]:.1f} |"
    )


def _stand_in(url: str, number: int) -> _StandIn:
    node = NodeEntry(secrets.token_hex(4), f"node {number}", f"http://127.0.0.1:{20_000 + number}")
    registry = Registry(ClusterSettings(url=url), node, Failures())
    return _StandIn(registry, asyncio.create_task(registry.run()))


async def _until_connected(registry: Registry) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not registry.is_connected:  # noqa: ASYNC110 - it tells nobody else
            await asyncio.sleep(0.02)


async def _end(one: _StandIn) -> None:
    one.task.cancel()
    await asyncio.gather(one.task, return_exceptions=True)
    await one.registry.close()


def _read(redis: RedisProcess, stand_ins: list[_StandIn]) -> tuple[float, float, float, float]:
    """Scripts, commands with those within scripts, seconds of CPU time, changes that were published."""
    cpu = redis.information("cpu")
    return (
        sum(one.registry.operations for one in stand_ins),
        int(redis.information("stats")["total_commands_processed"]),
        float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"]),
        int(redis.ask("get", "{voice}:sequence") or 0),
    )


if __name__ == "__main__":
    sys.exit(main())
