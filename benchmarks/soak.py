"""Hours of a house full of strangers: does the server stay as it was, and do the well-behaved hear everything?

    python benchmarks/soak.py                      30 minutes
    python benchmarks/soak.py --minutes 5 --seed x  the chance of that seed again

While a few streams are sent and received as they should be, a crowd of senders, receivers and players comes, goes,
stalls, vanishes, loses packets and talks nonsense. A line each minute; at the end the verdict: how much the server grew
in an hour, what is left of the crowd when it has gone, and packets that the well-behaved lost. The exit code is 1 if
there were any, or if the server's log tells of errors. Everything runs on 127.0.0.1.
"""

import argparse
import contextlib
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import command
import machine
import numpy as np
from command import Cores, share_out_cores
from fleet import Fleet
from flood import trouble_in
from load_crowd import LetLoose, run_crowd
from load_process import LoadProcess
from rounds import SERVER

_STREAMS = 3
_RECEIVERS = 12
# The crowd comes from one address, as the well-behaved do.
_LIMITS = {"connections_per_address": 1000}
# The server's own, for a peer that never connects and for the consent of one that vanished.
_TIMEOUT_S = 30.0
# What the crowd left must be gone so much later: a sender that is silent, the grace of its stream, and an encoder
# without listeners have 10 s each.
_SETTLE_S = 45.0
# Beyond these, a neighbour is measured.
_LATE_TICK_MS = 100.0
_FOREIGN_SHARE = 0.3
# However late: a packet that arrives is not lost, and the column of latencies tells the rest.
_STRAGGLERS_S = 3.0


@dataclass
class Minute:
    """What the server was like at its end, and what the well-behaved got in it.

    `doubtful`: packets that the load itself could not take or send. `server_drops`: datagrams of anybody that came when
    the server's buffers were full. `is_quiet`: nothing else on the machine kept the server or the load from working.
    """

    at_s: float
    resident_mb: float
    tasks: int
    descriptors: int
    threads: float
    lag_p50_ms: float
    lag_max_ms: float
    connections: int
    streams: int
    expected: int
    lost: int
    doubtful: int
    latency_p99_ms: float
    server_drops: int
    is_quiet: bool


def main() -> int:
    options = _parse_options()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    say = (lambda text: print(text, file=sys.stderr, flush=True)) if options.json else _print_at_once
    say(f"seed {options.seed}; {machine.describe()}")
    timeouts = {"connection_timeout": options.timeout, "consent_timeout_s": options.timeout}
    with Fleet.running(SERVER, cores, _LIMITS, timeouts) as fleet:
        soak = Soak(fleet, options.actors, options.seed, say)
        soak.run(options.minutes * 60, cores.clients, options.timeout + _SETTLE_S)
    for line in soak.verdict():
        say(line)
    if options.json:
        print(json.dumps(soak.as_json()))
    return 1 if soak.lost or soak.trouble else 0


class Soak:
    """One run. After `run`: `minutes`, `crowd` (what it did and met), `trouble` (lines of the log)."""

    def __init__(self, fleet: Fleet, actors: int, seed: str, say: Any) -> None:
        self.minutes: list[Minute] = []
        self.crowd: Counter[str] = Counter()
        self.trouble: list[str] = []
        self._fleet = fleet
        self._actors = actors
        self._seed = seed
        self._say = say
        self._before: Minute | None = None
        self._after: Minute | None = None

    @property
    def lost(self) -> int:
        return sum(max(minute.lost - minute.doubtful, 0) for minute in self.minutes)

    def run(self, seconds: float, cores: Collection[int], settle_s: float) -> None:
        fleet = self._fleet
        fleet.start_streams(_STREAMS)
        fleet.join(_RECEIVERS)
        self._say(
            "| minute | MB | tasks | files | threads | lag p50, max ms | sockets | streams | packets | lost | p99 |"
        )
        self._say("|---|---|---|---|---|---|---|---|---|---|---|")
        begun_s = time.monotonic()
        self._before = self._watch(min(seconds / 4, 10.0), begun_s)
        with _crowd(fleet, cores) as crowd:
            crowd.begin(LetLoose(self._actors, seconds, self._seed))
            while (left_s := begun_s + seconds - time.monotonic()) > 1:
                self._watch(min(60.0, max(seconds / 4, 5.0), left_s), begun_s)
            self.crowd = crowd.finish(120)
        self._say("The crowd has gone.")
        patient_until_s = time.monotonic() + settle_s
        while self._after is None or (time.monotonic() < patient_until_s and self._has_left_something()):
            self._after = self._watch(2.0, begun_s)
        self.trouble = trouble_in(fleet.server.log())

    def _watch(self, seconds: float, begun_s: float) -> Minute:
        with self._fleet.window(_STRAGGLERS_S) as window:
            time.sleep(seconds)
        figures = self._fleet.server.figures()
        measured = window.measurement
        minute = Minute(
            at_s=time.monotonic() - begun_s,
            resident_mb=measured.resident_bytes / 1e6,
            tasks=figures["tasks"],
            descriptors=machine.descriptors(self._fleet.server.pid),
            threads=measured.threads,
            lag_p50_ms=figures["loop_lag_p50_seconds"] * 1e3,
            lag_max_ms=figures["loop_lag_max_seconds"] * 1e3,
            connections=figures["active_connections"],
            streams=figures["active_streams"],
            expected=measured.expected,
            lost=measured.lost,
            doubtful=measured.client_drops + measured.refused * (_RECEIVERS // _STREAMS),
            latency_p99_ms=measured.latency_ms(99),
            server_drops=measured.server_drops,
            is_quiet=measured.late_tick_max_ms < _LATE_TICK_MS and measured.foreign_share < _FOREIGN_SHARE,
        )
        self.minutes.append(minute)
        self._say(
            f"| {minute.at_s / 60:.1f} | {minute.resident_mb:.1f} | {minute.tasks} | {minute.descriptors} "
            f"| {minute.threads:.0f} | {minute.lag_p50_ms:.1f}, {minute.lag_max_ms:.0f} | {minute.connections} "
            f"| {minute.streams} | {minute.expected} | {minute.lost} | {minute.latency_p99_ms:.1f} |"
        )
        return minute

    def growth_mb_per_hour(self) -> float:
        """Of the memory, by the straight line through the second half: at first, a server fills its caches."""
        half = self.minutes[len(self.minutes) // 2 :]
        if len(half) < 3:
            return float("nan")
        hours = [minute.at_s / 3600 for minute in half]
        return float(np.polyfit(hours, [minute.resident_mb for minute in half], 1)[0])

    def leftovers(self) -> dict[str, float]:
        """What is there after the crowd that was not there before it."""
        if self._before is None or self._after is None:
            return {}
        names = ("tasks", "descriptors", "threads", "connections", "streams")
        return {name: getattr(self._after, name) - getattr(self._before, name) for name in names}

    def _has_left_something(self) -> bool:
        # Threads of asyncio's own pool may stay.
        return any(count > 0 for name, count in self.leftovers().items() if name != "threads")

    def verdict(self) -> list[str]:
        acts = ", ".join(f"{what} {count}" for what, count in sorted(self.crowd.items()))
        left = ", ".join(f"{name} {count:+g}" for name, count in self.leftovers().items())
        return [
            f"the crowd: {acts}",
            f"left of it: {left}",
            f"memory: {self.growth_mb_per_hour():+.1f} MB per hour",
            f"lost by the well-behaved: {self.lost} of {sum(minute.expected for minute in self.minutes)} packets"
            + ("" if all(minute.is_quiet for minute in self.minutes) else " (other programs kept the machine busy)"),
            f"errors in the log: {len(self.trouble)}",
            *(f"  {count} × {line}" for line, count in Counter(self.trouble).most_common(10)),
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "lost": self.lost,
            "trouble": self.trouble,
            "leftovers": self.leftovers(),
            "growth_mb_per_hour": self.growth_mb_per_hour(),
            "crowd": self.crowd,
            "minutes": [asdict(minute) for minute in self.minutes],
        }


@contextlib.contextmanager
def _crowd(fleet: Fleet, cores: Collection[int]) -> Iterator[LoadProcess]:
    crowd = LoadProcess("crowd", run_crowd, cores, fleet.server.port, fleet.server.audio_port)
    try:
        yield crowd
    finally:
        crowd.stop()


def _print_at_once(text: str) -> None:
    print(text, flush=True)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--actors", type=int, default=20, help="size of the crowd")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument(
        "--timeout", type=float, default=_TIMEOUT_S, help="seconds that the server waits for a peer; 6 to 30"
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output, the rest on standard error")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
