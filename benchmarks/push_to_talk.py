"""What a press costs: how soon it is heard, what is lost of it, what being ready costs. See benchmarks/README.md.

    python benchmarks/push_to_talk.py                     the server alone, in about a minute
    python benchmarks/push_to_talk.py --pages             and the pages, in Chromium and Firefox: some minutes more

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Iterator

import aiohttp
import command
import machine
from command import Cores, share_out_cores
from house import House, Talker
from light_peer import LightPeer
from player import Player
from rounds import SERVER
from server_process import ServerProcess

_IDLE_S = 6.0
_SETTLE_S = 2.0
_LIMITS = {
    "connections_per_address": 100_000,
    "tcp_connections_per_address": 100_000,
    "max_receivers": 100_000,
    "max_streams": 100_000,
    "max_negotiations": 10_000,
}


def main() -> int:
    options = _parse_options()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    with _server(cores) as server:
        asyncio.run(_measure(server, options))
    if options.pages:
        # Only here: they need browsers.
        from push_to_talk_pages import measure_pages

        asyncio.run(measure_pages(options.presses))
    return 0


@contextlib.contextmanager
def _server(cores: Cores) -> Iterator[ServerProcess]:
    server = ServerProcess(SERVER, cores.server, limits=_LIMITS)
    try:
        yield server
    finally:
        server.stop()


async def _measure(server: ServerProcess, options: argparse.Namespace) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        house = House(http, server)
        await _compare_presses(house, options.presses)
        await _switch(house, options.presses)
        for what, talkers, followers in (("armed talkers", options.peers, 0), ("followers", 0, options.peers)):
            await _idle(house, what, talkers, followers)
        await _idle_receivers(house, options.peers)


async def _compare_presses(house: House, presses: int) -> None:
    """By turns: a connection that is ready, and one that is made at the press."""
    warm_ms, cold_ms = [], []
    async with house.talker("warm", talking=False) as talker, house.listener(None, follow=True) as follower:
        for _ in range(presses):
            warm_ms.append(await _press_warm(talker, follower))
            cold_ms.append(await _press_cold(house))
    print(f"press to first RTP, {presses} presses each, by turns, in ms")
    for name, took_ms in (("armed and following", warm_ms), ("as without both", cold_ms)):
        took_ms.sort()
        print(f"  {name}: p50 {statistics.median(took_ms):.1f}, longest {took_ms[-1]:.1f}")


async def _press_warm(talker: Talker, follower: Player) -> float:
    follower.await_next()
    pressed_s = time.time()
    await talker.session.socket.send_json({"type": "set_talking", "talking": True})
    talker.begin()
    heard_s = await follower.until_first()
    await asyncio.sleep(random.uniform(0.1, 0.2))
    talker.stop()
    await talker.session.socket.send_json({"type": "set_talking", "talking": False})
    await asyncio.sleep(0.3)
    return 1e3 * (heard_s - pressed_s)


async def _press_cold(house: House) -> float:
    """A talker that negotiates, and a receiver that waits for the stream to negotiate."""
    async with house.watcher() as watcher:
        pressed_s = time.time()
        async with house.talker("cold") as talker:
            talker.begin()
            async for frame in watcher:
                if frame.type is aiohttp.WSMsgType.TEXT and frame.json()["type"] == "stream_available":
                    break
            async with house.listener("cold") as receiver:
                heard_s = await receiver.until_first()
    return 1e3 * (heard_s - pressed_s)


async def _switch(house: House, presses: int) -> None:
    """Two who talk over each other, and one who follows."""
    async with (
        house.talker("one") as one,
        house.talker("other", talking=False) as other,
        house.listener(None, follow=True) as follower,
    ):
        one.begin()
        await follower.until_first()
        follower.note_numbers()
        for _ in range(presses):
            await other.session.socket.send_json({"type": "set_talking", "talking": True})
            other.begin()
            await asyncio.sleep(random.uniform(0.2, 0.3))
            other.stop()
            await other.session.socket.send_json({"type": "set_talking", "talking": False})
            await asyncio.sleep(random.uniform(0.2, 0.3))
        lost, longest_s = follower.noted()
    print(f"{2 * presses} switches between two talkers: {lost} packets lost, longest gap {1e3 * longest_s:.0f} ms")


async def _idle(house: House, what: str, talkers: int, followers: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number in range(talkers):
            talker = await stack.enter_async_context(house.talker(f"talker {number}", talking=False))
            peers.append(talker.session.peer)
        for _ in range(followers):
            follower = await stack.enter_async_context(house.listener(None, follow=True))
            peers.append(follower.peer)
        await _print_idle(house.server, what, peers)


async def _idle_receivers(house: House, count: int) -> None:
    """What both are to be compared with: receivers of a stream whose sender is silent."""
    async with contextlib.AsyncExitStack() as stack:
        talker = await stack.enter_async_context(house.talker("silent"))
        talker.begin()
        await asyncio.sleep(0.2)
        peers = [(await stack.enter_async_context(house.listener("silent"))).peer for _ in range(count)]
        talker.stop()
        await _print_idle(house.server, "receivers of a silent stream", [*peers, talker.session.peer])


async def _print_idle(server: ServerProcess, what: str, peers: list[LightPeer]) -> None:
    await _keep_alive(peers, _SETTLE_S)
    before = server.read()
    await _keep_alive(peers, _IDLE_S)
    after = server.read()
    per_peer_us = 1e6 * (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s) / len(peers)
    print(f"{len(peers)} {what}: {per_peer_us:.0f} us of CPU each a second")


async def _keep_alive(peers: list[LightPeer], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for peer in peers:
            peer.tick(time.monotonic())
        await asyncio.sleep(0.05)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presses", type=int, default=50)
    parser.add_argument("--peers", type=int, default=400, help="of each kind, to measure what readiness costs")
    parser.add_argument("--pages", action="store_true", help="also with the pages in browsers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
