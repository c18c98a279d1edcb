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
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import command
import machine
import signalling
from command import Cores, share_out_cores
from light_peer import Identity, LightPeer
from light_sdp import OPUS_PAYLOAD_TYPE
from load_sender import connect, take_all
from marked_opus import PACKET_S, SAMPLES_PER_PACKET
from player import Player
from rounds import SERVER
from server_process import ServerProcess

_FILLING = bytes([120]) + bytes(115)
_IDLE_S = 6.0
_SETTLE_S = 2.0
_LIMITS = {
    "connections_per_address": 100_000,
    "tcp_connections_per_address": 100_000,
    "max_receivers": 100_000,
    "max_streams": 100_000,
    "max_negotiations": 10_000,
}


class _Talker:
    """A light peer that sends a packet every 20 ms while it talks."""

    def __init__(self, session: signalling.Session) -> None:
        self.session = session
        self._number = random.randrange(1 << 15)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._speak(self.session.peer))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        self.stop()
        asyncio.get_running_loop().remove_reader(self.session.peer.socket)
        await self.session.close()

    async def _speak(self, peer: LightPeer) -> None:
        due_s = time.monotonic()
        while True:
            timestamp = self._number * SAMPLES_PER_PACKET & 0xFFFF_FFFF
            header = struct.pack("!BBHII", 0x80, OPUS_PAYLOAD_TYPE, self._number & 0xFFFF, timestamp, peer.local.ssrc)
            peer.send(peer.protect(header + _FILLING + struct.pack("!I", self._number)))
            take_all(peer)
            peer.tick(time.monotonic())
            self._number, due_s = self._number + 1, due_s + PACKET_S
            await asyncio.sleep(due_s - time.monotonic())


class _House:
    """One server, and those who talk and listen there."""

    def __init__(self, http: aiohttp.ClientSession, server: ServerProcess) -> None:
        self.server = server
        self._http = http
        self._url = f"{server.url}/ws"
        self._identity = Identity()

    @contextlib.asynccontextmanager
    async def talker(self, name: str, *, talking: bool) -> AsyncIterator[_Talker]:
        fields = {} if talking else {"talking": False}
        session = await signalling.send(self._http, self._url, self._identity, name, **fields)
        await connect(session.peer)
        talker = _Talker(session)
        try:
            yield talker
        finally:
            await talker.close()

    @contextlib.asynccontextmanager
    async def listener(self, stream_id: str | None, *, follow: bool) -> AsyncIterator[Player]:
        fields = {"follow": True} if follow else {}
        session = await signalling.receive(self._http, self._url, self._identity, stream_id, **fields)
        player = Player(session.peer)
        try:
            deadline_s = time.monotonic() + 10
            while not session.peer.ready and time.monotonic() < deadline_s:
                await asyncio.sleep(0.005)
                session.peer.tick(time.monotonic())
            yield player
        finally:
            player.close()
            await session.close()

    @contextlib.asynccontextmanager
    async def watcher(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self._http.ws_connect(self._url) as socket:
            yield socket


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
        house = _House(http, server)
        await _compare_presses(house, options.presses)
        await _switch(house, options.presses)
        for what, talkers, followers in (("armed talkers", options.peers, 0), ("followers", 0, options.peers)):
            await _idle(house, what, talkers, followers)
        await _idle_receivers(house, options.peers)


async def _compare_presses(house: _House, presses: int) -> None:
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


async def _press_warm(talker: _Talker, follower: Player) -> float:
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


async def _press_cold(house: _House) -> float:
    """A talker that negotiates, and a receiver that waits for the stream to negotiate."""
    async with house.watcher() as watcher:
        pressed_s = time.time()
        async with house.talker("cold", talking=True) as talker:
            talker.begin()
            async for frame in watcher:
                if frame.type is aiohttp.WSMsgType.TEXT and frame.json()["type"] == "stream_available":
                    break
            async with house.listener("cold", follow=False) as receiver:
                heard_s = await receiver.until_first()
    return 1e3 * (heard_s - pressed_s)


async def _switch(house: _House, presses: int) -> None:
    """Two who talk over each other, and one who follows."""
    async with (
        house.talker("one", talking=True) as one,
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


async def _idle(house: _House, what: str, talkers: int, followers: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number in range(talkers):
            talker = await stack.enter_async_context(house.talker(f"talker {number}", talking=False))
            peers.append(talker.session.peer)
        for _ in range(followers):
            follower = await stack.enter_async_context(house.listener(None, follow=True))
            peers.append(follower.peer)
        await _print_idle(house.server, what, peers)


async def _idle_receivers(house: _House, count: int) -> None:
    """What both are to be compared with: receivers of a stream whose sender is silent."""
    async with contextlib.AsyncExitStack() as stack:
        talker = await stack.enter_async_context(house.talker("silent", talking=True))
        talker.begin()
        await asyncio.sleep(0.2)
        peers = [(await stack.enter_async_context(house.listener("silent", follow=False))).peer for _ in range(count)]
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
