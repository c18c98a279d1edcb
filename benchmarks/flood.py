"""Flood the server in every way, one after the other, while voices go through it. See benchmarks/README.md.

    python benchmarks/flood.py                 500 sockets, 5 seconds of each kind: about two minutes
    python benchmarks/flood.py --kinds pings   only that kind; may be repeated

Prints, for each kind: what became of the voices' packets, how long /health took, and what the server did to the flood.
The exit code is 1 if a packet of a voice was lost. Everything runs on 127.0.0.1.
"""

import argparse
import contextlib
import http.client
import json
import re
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass

import command
import machine
from command import Cores, share_out_cores
from fleet import Fleet
from load_flood import ATTACKS, Flood, FloodReport, run_flood
from load_process import LoadProcess
from rounds import SERVER

_RECEIVERS = 10
_HEALTH_INTERVAL_S = 0.1
_HEALTH_TIMEOUT_S = 10.0
# Between two kinds: what the last one left behind is closed, and does not count as the next one's.
_RECOVERY_S = 3.0
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception|Refused|Interrupt)\b")


@dataclass
class Outcome:
    """`lost`: packets that did not reach a receiver; `doubtful`: those that the load could not take or send."""

    kind: str
    expected: int
    lost: int
    doubtful: int
    latency_p99_ms: float
    latency_max_ms: float
    health_p50_ms: float
    health_max_ms: float
    health_failures: int
    server_share: float
    resident_mb: float
    flood: str


class HealthWatch:
    """Asks for /health on a connection of its own each time, as a supervisor does, while the block runs."""

    def __init__(self, port: int) -> None:
        self.took_ms: list[float] = []
        self.failures = 0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health watch")

    def __enter__(self) -> "HealthWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_HEALTH_INTERVAL_S):
            begun_s = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_HEALTH_TIMEOUT_S)
                connection.request("GET", "/health")
                if connection.getresponse().status != 200:
                    self.failures += 1
                connection.close()
            except OSError:
                self.failures += 1
            self.took_ms.append((time.monotonic() - begun_s) * 1e3)


def main() -> int:
    options = _parse_options()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe(), file=sys.stderr)
    outcomes, trouble = _flood_in_every_way(options, cores)
    lost = sum(max(outcome.lost - outcome.doubtful, 0) for outcome in outcomes)
    if options.json:
        print(json.dumps({"lost": lost, "trouble": trouble, "outcomes": [asdict(outcome) for outcome in outcomes]}))
    else:
        _print_table(outcomes)
        print(f"\nlost by the server: {lost}; lines of trouble in its log: {len(trouble)}")
        for line, count in Counter(trouble).most_common(10):
            print(f"  {count} × {line}")
    return 1 if lost else 0


def _flood_in_every_way(options: argparse.Namespace, cores: Cores) -> tuple[list[Outcome], list[str]]:
    with Fleet.running(SERVER, cores, limits={}) as fleet, contextlib.ExitStack() as started:
        fleet.start_streams(1)
        fleet.join(_RECEIVERS)
        flooder = LoadProcess("flooder", run_flood, cores.clients, "127.0.0.1", fleet.server.port)
        started.callback(flooder.stop)
        outcomes = []
        for kind in options.kinds or ATTACKS:
            print(f"— {kind}", file=sys.stderr, flush=True)
            outcomes.append(_flood(fleet, flooder, kind, options.sockets, options.seconds))
            time.sleep(_RECOVERY_S)
        return outcomes, trouble_in(fleet.server.log())


def trouble_in(log: list[str]) -> list[str]:
    """What the server says of errors, without the times; of a traceback its last line."""
    signs = (" ERROR ", "never retrieved")
    lines = [line for line in log if any(sign in line for sign in signs) or _EXCEPTION.match(line)]
    return [line.partition(" ERROR ")[2].strip() or line for line in lines]


def _flood(fleet: Fleet, flooder: LoadProcess, kind: str, sockets: int, seconds: float) -> Outcome:
    with fleet.window() as window, HealthWatch(fleet.server.port) as health:
        flooder.begin(Flood(kind, sockets, seconds))
        report: FloodReport = flooder.finish(seconds + 60)
    measured = window.measurement
    answers = ", ".join(f"{count} × {answer}" for answer, count in report.answers.most_common(4))
    return Outcome(
        kind=kind,
        expected=measured.expected,
        lost=measured.lost,
        doubtful=measured.client_drops + measured.refused * _RECEIVERS,
        latency_p99_ms=measured.latency_ms(99),
        latency_max_ms=measured.latency_ms(100),
        health_p50_ms=statistics.median(health.took_ms),
        health_max_ms=max(health.took_ms),
        health_failures=health.failures,
        server_share=measured.server_share,
        resident_mb=measured.resident_bytes / 1e6,
        flood=f"{report.sent_bytes / 1e6:.1f} MB; {answers}",
    )


def _print_table(outcomes: list[Outcome]) -> None:
    print("| flood | packets | lost | latency p99, max ms | /health p50, max ms | CPU | MB | answers to the flood |")
    print("|---|---|---|---|---|---|---|---|")
    for one in outcomes:
        failures = f" ({one.health_failures} failed)" if one.health_failures else ""
        print(
            f"| {one.kind} | {one.expected} | {one.lost} | {one.latency_p99_ms:.1f}, {one.latency_max_ms:.1f} "
            f"| {one.health_p50_ms:.1f}, {one.health_max_ms:.0f}{failures} "
            f"| {one.server_share:.0%} | {one.resident_mb:.0f} | {one.flood} |"
        )


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each kind")
    parser.add_argument("--kinds", action="append", choices=list(ATTACKS), help="default: all")
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
