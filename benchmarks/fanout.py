"""Measure what the server's fan-out costs: CPU, latency, losses, joining, memory. See benchmarks/README.md.

    python benchmarks/fanout.py                      every figure at 400 receivers, in about a minute
    python benchmarks/fanout.py --baseline           the same by turns with a plain aiortc relay: 4 minutes
    python benchmarks/fanout.py --floor              by turns with protecting and sending alone, in C, and the ratio
    python benchmarks/fanout.py --max-receivers 1500 how many receivers one stream carries without a lost packet

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import datetime
import json
import sys
import time
from dataclasses import replace
from statistics import median

import command
import machine
from command import Cores, share_out_cores
from floor import FloorComparison
from report import Report, print_table
from rounds import PLAIN_RELAY, SERVER, CapacitySearch, Figures, Plan, Round


def main() -> int:
    options = _parse_options()
    # One receiver process each: more than four would only shrink every one's share.
    cores = share_out_cores(most_clients=4)
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    say = _Progress()
    say(machine.describe())
    report = Report(date=datetime.date.today().isoformat(), machine=machine.describe())
    if options.max_receivers:
        search = CapacitySearch(options.server, cores, say)
        search.run(options.max_receivers)
        report.server, report.doubts = search.figures, search.doubts
    elif options.floor:
        comparison = FloorComparison(options.server, cores, say)
        comparison.run(options.receivers, options.seconds, options.rounds or 3)
        report.server, report.doubts = comparison.figures, comparison.doubts
        report.srtp_profile = f"{comparison.srtp_profile}, {comparison.library}"
    else:
        _run_rounds(options, cores, say, report)
    print_table(report, sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    return 0


def _run_rounds(options: argparse.Namespace, cores: Cores, say: "_Progress", report: Report) -> None:
    """By turns, so that whatever else the machine does meets both alike."""
    plan = Plan(
        script=options.server,
        receivers=options.receivers,
        streams=options.streams,
        seconds=options.seconds,
        joiners=options.joiners,
        join_s=3.0,
        many_streams=20,
        receivers_per_stream=20,
        compared_receivers=min(options.baseline_receivers, options.receivers) if options.baseline else 0,
    )
    baseline_plan = replace(
        plan,
        script=PLAIN_RELAY,
        receivers=options.baseline_receivers,
        joiners=max(options.baseline_receivers // 2, 1),
        many_streams=0,
        compared_receivers=0,
    )
    rounds = options.rounds or (2 if options.baseline else 1)
    for number in range(1, rounds + 1):
        report.server_rounds.append(_run_round(plan, cores, say, report, f"round {number}: {plan.script}"))
        if options.baseline:
            title = f"round {number}: {baseline_plan.script}"
            report.baseline_rounds.append(_run_round(baseline_plan, cores, say, report, title))
    report.server = _medians(report.server_rounds)
    report.baseline = _medians(report.baseline_rounds)


def _run_round(plan: Plan, cores: Cores, say: "_Progress", report: Report, title: str) -> Figures:
    say(f"— {title}")
    current = Round(plan, cores, say)
    current.run()
    report.doubts += [f"{title}: {doubt}" for doubt in current.doubts]
    report.srtp_profile = report.srtp_profile or current.srtp_profile
    return current.figures


def _medians(rounds: list[Figures]) -> Figures:
    names = list(dict.fromkeys(name for figures in rounds for name in figures))
    return {name: median(figures[name] for figures in rounds if name in figures) for name in names}


class _Progress:
    """Lines with the time since the start, on standard error."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start_s:6.1f} s] {text}", file=sys.stderr, flush=True)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=_positive, default=400)
    parser.add_argument("--streams", type=_positive, default=1, help="streams for the receivers to share")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measured window")
    parser.add_argument("--joiners", type=_positive, default=200, help="receivers that join within 3 s")
    parser.add_argument("--baseline", action="store_true", help="measure the plain aiortc relay too, by turns")
    parser.add_argument(
        "--baseline-receivers", type=_positive, default=20, help="the plain relay breaks beyond about 20 on one core"
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        help="default: 1, or 2 with --baseline; figures are their medians. With --floor: turns of each, by default 3",
    )
    parser.add_argument("--floor", action="store_true", help="only compare with protecting and sending alone, in C")
    parser.add_argument("--max-receivers", type=_positive, help="only search for the capacity, up to that many")
    parser.add_argument("--server", default=SERVER, help="the server's script, from the repository's root")
    parser.add_argument("--json", action="store_true", help="JSON on standard output; the rest on standard error")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
