"""Thousands of receivers that come and go: is anything left of them? See benchmarks/README.md.

    python benchmarks/churn.py                     5,000 joins and leaves, 50 at a time: about five minutes
    python benchmarks/churn.py --joins 500         fewer

A line after each 500; at the end what the server has more than after the first 500, in which it fills its caches. It
measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import sys
from typing import Any

import command
import machine
from command import Cores, share_out_cores
from fleet import Fleet
from rounds import SERVER

_LINE_EVERY = 500
_FIGURES = ("tasks", "open_files", "threads", "active_connections", "receivers")


def main() -> int:
    options = _parse_options()
    cores = share_out_cores()
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    with Fleet.running(SERVER, cores) as fleet:
        _churn(fleet, options.joins, options.at_once)
    return 0


def _churn(fleet: Fleet, joins: int, at_once: int) -> None:
    fleet.start_streams(1)
    print(f"| joined and left | MB | {' | '.join(_FIGURES)} |\n|{'---|' * (len(_FIGURES) + 2)}")
    _print_line(0, fleet.server.figures())
    warm: dict[str, Any] | None = None
    for done in range(at_once, joins + at_once, at_once):
        report = fleet.join(at_once)
        if report.failures:
            print(f"note: {len(report.failures)} could not join: {report.failures[0]}")
        fleet.leave(keep=0)
        if done % _LINE_EVERY < at_once:
            figures = fleet.server.figures()
            warm = warm or figures
            _print_line(done, figures)
    if warm is not None:
        last = fleet.server.figures()
        more = [f"{name} {last[name] - warm[name]:+d}" for name in _FIGURES]
        more_mb = (last["resident_bytes"] - warm["resident_bytes"]) / 1e6
        print(f"more than after {_LINE_EVERY}: {more_mb:+.1f} MB, {', '.join(more)}")


def _print_line(done: int, figures: dict[str, Any]) -> None:
    values = " | ".join(str(figures[name]) for name in _FIGURES)
    print(f"| {done} | {figures['resident_bytes'] / 1e6:.1f} | {values} |", flush=True)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--joins", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=50, help="receivers that are there at the same time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
