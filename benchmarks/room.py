"""What a room costs: 400 receivers of one voice, and of three that are mixed. See benchmarks/README.md.

    python benchmarks/room.py                             by turns, in about two minutes

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from statistics import median

import command
import machine
import signalling
from command import Cores, share_out_cores
from house import House, Talker
from player import Player
from rounds import SERVER
from server_process import ServerProcess

_ROOM = "Kitchen"
_SETTLE_S = 2.0
_LIMITS = {
    "connections_per_address": 100_000,
    "tcp_connections_per_address": 100_000,
    "max_receivers": 100_000,
    "max_streams": 1000,
    "max_negotiations": 10_000,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measured window")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each kind, by turns")
    options = parser.parse_args()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    server = ServerProcess(SERVER, cores.server, limits=_LIMITS)
    try:
        asyncio.run(_measure(server, options))
    finally:
        server.stop()
    return 0


async def _measure(server: ServerProcess, options: argparse.Namespace) -> None:
    async with signalling.open_client() as client, contextlib.AsyncExitStack() as stack:
        house = House(client, server)
        fields = {"rooms": [_ROOM], "talking": False}
        talkers = [await stack.enter_async_context(house.talker(f"talker {n}", **fields)) for n in range(3)]
        players = [await stack.enter_async_context(house.listener(None, room=_ROOM)) for _ in range(options.receivers)]
        windows: dict[int, list[_Window]] = {1: [], 3: []}
        for _ in range(options.rounds):
            for voices, seen in windows.items():
                seen.append(await _window(server, talkers, players, voices, options.seconds))
    print("| voices | server's CPU | us a packet sent | longest gap ms | lost |\n|---|---|---|---|---|")
    for voices, seen in windows.items():
        print(
            f"| {voices} | {median(100 * w.cpu_s / w.seconds for w in seen):.1f} % of a core | "
            f"{median(1e6 * w.cpu_s / w.packets for w in seen):.1f} | {max(w.longest_gap_s for w in seen) * 1e3:.0f} | "
            f"{sum(w.lost for w in seen)} of {sum(w.packets for w in seen)} |"
        )


class _Window:
    def __init__(self, seconds: float, cpu_s: float, players: list[Player]) -> None:
        noted = [player.noted() for player in players]
        self.seconds = seconds
        self.cpu_s = cpu_s
        self.lost = sum(lost for lost, _ in noted)
        self.longest_gap_s = max(gap_s for _, gap_s in noted)
        self.packets = sum(player.noted_packets for player in players)


async def _window(
    server: ServerProcess, talkers: list[Talker], players: list[Player], voices: int, seconds: float
) -> _Window:
    for number, talker in enumerate(talkers):
        talker.stop()
        await talker.session.socket.send_json({"type": "set_talking", "talking": number < voices})
        if number < voices:
            talker.begin()
    await _go_on(players, _SETTLE_S)
    for player in players:
        player.note_numbers()
    before = server.read()
    await _go_on(players, seconds)
    after = server.read()
    mixes = server.figures()["mixes"]
    if mixes != (voices > 1):
        print(f"{voices} voices: {mixes} mixes are made", file=sys.stderr)
    return _Window(after.at_s - before.at_s, after.cpu_s - before.cpu_s, players)


async def _go_on(players: list[Player], seconds: float) -> None:
    """So long, while peers answer what keeps them connected."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        await asyncio.sleep(0.5)
        for player in players:
            player.peer.tick(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
