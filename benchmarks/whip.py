"""What WHEP and a pull from another server cost: see benchmarks/README.md.

    python benchmarks/whip.py                      about 40 seconds
    python benchmarks/whip.py --receivers 20       fewer
    python benchmarks/whip.py --sessions 10000     so many sessions, opened and left, beside a voice: some minutes

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import asyncio
import contextlib
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import command
import machine
import signalling
from command import Cores, share_out_cores
from light_peer import Identity, LightPeer
from light_sdp import OPUS_PAYLOAD_TYPE, Remote
from load_process import LoadError
from load_sender import connect, take_all
from marked_opus import PACKET_S, SAMPLES_PER_PACKET
from player import Player
from rounds import SERVER
from server_process import ServerProcess

_PAYLOAD_BYTES = 120
_JOINS = 40
_AT_ONCE = 40
_LEAVE_TIMEOUT_S = 5.0
"""Longer than a session may take to connect here."""


class _Client:
    """Makes players of one server, by WHEP and by the WebSocket."""

    def __init__(self, http: aiohttp.ClientSession, server: ServerProcess, stream: str) -> None:
        self.server = server
        self._http = http
        self._stream = stream
        self._identity = Identity()

    async def whep(self, stack: contextlib.AsyncExitStack, *, decrypt: bool = False) -> Player:
        peer = LightPeer(self._identity, controlling=True)
        player = Player(peer, decrypt=decrypt)
        stack.callback(player.close)
        url = f"{self.server.url}/whep/{self._stream}"
        headers = {"Content-Type": "application/sdp"}
        async with self._http.post(url, data=peer.local.offer_to_receive(), headers=headers) as answer:
            text = await answer.text()
            if answer.status != 201:
                raise LoadError(f"WHEP answered {answer.status}: {text}")
        peer.connect(Remote.from_sdp(text))
        return player

    async def websocket(self, stack: contextlib.AsyncExitStack, *, decrypt: bool = False) -> Player:
        session = await signalling.receive(self._http, f"{self.server.url}/ws", self._identity, self._stream)
        stack.push_async_callback(session.close)
        player = Player(session.peer, decrypt=decrypt)
        stack.callback(asyncio.get_running_loop().remove_reader, session.peer.socket)
        return player


def main() -> int:
    options = _parse_options()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    with _servers(cores) as (first, second):
        asyncio.run(_measure(first, second, options.receivers, options.seconds))
        if options.sessions:
            asyncio.run(_leave_many(first, options.sessions))
    return 0


async def _leave_many(server: ServerProcess, count: int) -> None:
    """Half of them publish and half play, none ever connects: what is lost of a voice, and what is left of them.

    Twice: what the second time leaves is what a third would.
    """
    async with aiohttp.ClientSession() as http, _speaking(http, server):
        peers = [LightPeer(Identity(), controlling=True) for _ in range(2)]
        offers = {"whep/bench": peers[0].local.offer_to_receive(), "whip/hall": peers[1].local.offer()}
        # The other server pulls again.
        await asyncio.sleep(_LEAVE_TIMEOUT_S)
        for _ in range(2):
            before = server.figures()
            async with contextlib.AsyncExitStack() as stack:
                player = await _Client(http, server, "bench").websocket(stack)
                await player.until_first()
                player.note_numbers()
                begun_s = time.monotonic()
                await _open_all(server, offers, count)
                took_s = time.monotonic() - begun_s
                lost, longest_s = player.noted()
            await asyncio.sleep(_LEAVE_TIMEOUT_S)
            after = server.figures()
            left = {name: after[name] - before[name] for name in ("tasks", "open_files", "active_streams", "receivers")}
            more_mb = (after["resident_bytes"] - before["resident_bytes"]) / 1e6
            print(f"{count} sessions opened and left in {took_s:.0f} s: {lost} packets of a voice lost")
            print(f"  longest time without one {1e3 * longest_s:.0f} ms; {more_mb:+.1f} MB; left: {left}")
        for peer in peers:
            peer.close()


async def _open_all(server: ServerProcess, offers: dict[str, str], count: int) -> None:
    numbers = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(_open_sessions(http, server, offers, numbers) for _ in range(_AT_ONCE)))


async def _open_sessions(
    http: aiohttp.ClientSession, server: ServerProcess, offers: dict[str, str], numbers: Iterator[int]
) -> None:
    headers = {"Content-Type": "application/sdp"}
    for number in numbers:
        path = "whep/bench" if number % 2 else "whip/hall"
        url = f"{server.url}/{path}" if number % 2 else f"{server.url}/{path}{number % 50}"
        while True:
            async with http.post(url, data=offers[path], headers=headers) as answer:
                if answer.status == 201:
                    break
                if answer.status not in (409, 429, 503):
                    raise LoadError(f"{path} answered {answer.status}: {await answer.text()}")
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def _servers(cores: Cores) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """The second pulls `bench` from the first. They share a core, as on one machine."""
    with contextlib.ExitStack() as started:
        first = ServerProcess(SERVER, cores.server, webrtc={"connection_timeout": 3.0})
        started.callback(first.stop)
        second = ServerProcess(SERVER, cores.server, sources={"bench": {"whep": f"{first.url}/whep/bench"}})
        started.callback(second.stop)
        yield first, second


async def _measure(first: ServerProcess, second: ServerProcess, receivers: int, seconds: float) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, _speaking(http, first):
        here, there = _Client(http, first, "bench"), _Client(http, second, "bench")
        await signalling.find_stream(http, f"{second.url}/ws", "bench")
        await _compare_latency(here, there, seconds)
        await _time_first_packets(here)
        for name, join in (("WHEP", here.whep), ("WebSocket", here.websocket), ("WHEP again", here.whep)):
            await _cost(name, join, first, receivers, seconds)


@contextlib.asynccontextmanager
async def _speaking(http: aiohttp.ClientSession, server: ServerProcess) -> AsyncIterator[None]:
    session = await signalling.send(http, f"{server.url}/ws", Identity(), "bench")
    await connect(session.peer)
    talking = asyncio.create_task(_speak(session.peer))
    try:
        await signalling.find_stream(http, f"{server.url}/ws", "bench")
        yield
    finally:
        talking.cancel()
        asyncio.get_running_loop().remove_reader(session.peer.socket)
        await session.close()


async def _speak(peer: LightPeer) -> None:
    number, due_s = 0, time.monotonic()
    filling = bytes([120]) + bytes(_PAYLOAD_BYTES - 5)
    while True:
        timestamp = number * SAMPLES_PER_PACKET & 0xFFFF_FFFF
        header = struct.pack("!BBHII", 0x80, OPUS_PAYLOAD_TYPE, number & 0xFFFF, timestamp, peer.local.ssrc)
        peer.send(peer.protect(header + filling + struct.pack("!I", number)))
        take_all(peer)
        peer.tick(time.monotonic())
        number, due_s = number + 1, due_s + PACKET_S
        await asyncio.sleep(due_s - time.monotonic())


async def _compare_latency(here: _Client, there: _Client, seconds: float) -> None:
    """The same packets at a player of each server."""
    async with contextlib.AsyncExitStack() as stack:
        near, far = await here.websocket(stack, decrypt=True), await there.websocket(stack, decrypt=True)
        await near.until_first()
        await far.until_first()
        await asyncio.sleep(seconds)
        both = near.arrived_s.keys() & far.arrived_s.keys()
        added_ms = sorted(1e3 * (far.arrived_s[number] - near.arrived_s[number]) for number in both)
    p50, p99 = statistics.median(added_ms), added_ms[int(0.99 * len(added_ms))]
    print(f"a pull adds, over {len(added_ms)} packets: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


async def _time_first_packets(here: _Client) -> None:
    took_ms = []
    for _ in range(_JOINS):
        async with contextlib.AsyncExitStack() as stack:
            asked_s = time.time()
            player = await here.whep(stack)
            took_ms.append(1e3 * (await player.until_first() - asked_s))
    took_ms.sort()
    p50, worst = statistics.median(took_ms), took_ms[-1]
    print(f"POST to first RTP, {_JOINS} players one after the other: p50 {p50:.0f} ms, longest {worst:.0f} ms")


async def _cost(
    name: str,
    join: Callable[[contextlib.AsyncExitStack], Awaitable[Player]],
    server: ServerProcess,
    count: int,
    seconds: float,
) -> None:
    alone = server.read()
    async with contextlib.AsyncExitStack() as stack:
        players = [await join(stack) for _ in range(count)]
        for player in players:
            await player.until_first()
        before, packets = server.read(), sum(player.packets for player in players)
        await asyncio.sleep(seconds)
        after = server.read()
        packets = sum(player.packets for player in players) - packets
    cpu_us = 1e6 * (after.cpu_s - before.cpu_s) / max(packets, 1)
    more_mb = (after.resident_bytes - alone.resident_bytes) / 1e6 / count
    print(f"{name}: {count} receivers, {packets} packets, {cpu_us:.1f} us each, {more_mb:.3f} MB more per receiver")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--sessions", type=int, default=0, help="also open so many and leave them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
