"""What recording costs, and that nobody hears it: 20 streams with 400 receivers, recorded and not. See
benchmarks/README.md.

    python benchmarks/recording.py                        by turns, in about two minutes

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import sys
import time
from statistics import median

import command
import machine
from command import Cores, share_out_cores
from fleet import Fleet, Measurement
from rounds import SERVER, in_short

_STREAMS = 20
_RECEIVERS = 400
_SETTLE_S = 3.0
_MODES = {"not recorded": {"mode": "off"}, "recorded": {"mode": "always"}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measured window")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each kind, by turns")
    options = parser.parse_args()
    cores = share_out_cores(most_clients=4)
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(machine.describe())
    seen: dict[str, list[Measurement]] = {name: [] for name in _MODES}
    for number in range(options.rounds):
        for name, recording in _MODES.items():
            measurement, written = _window(recording, options.seconds, cores)
            seen[name].append(measurement)
            more = f", {written / options.seconds / _STREAMS / 1000:.1f} kB/s a recording" if written else ""
            print(f"round {number + 1}, {name}: {in_short(measurement)}{more}", file=sys.stderr)
    print("| | server's CPU | latency p50, p99 ms | lost |\n|---|---|---|---|")
    for name, windows in seen.items():
        print(
            f"| {name} | {_cpu(windows):.2f} % of a core | {median(w.latency_ms(50) for w in windows):.2f}, "
            f"{median(w.latency_ms(99) for w in windows):.2f} | {sum(w.lost for w in windows)} of "
            f"{sum(w.expected for w in windows)} |"
        )
    each = (_cpu(seen["recorded"]) - _cpu(seen["not recorded"])) / _STREAMS
    print(f"\neach recording: {each:.3f} % of a core")
    return 0


def _window(recording: dict[str, str], seconds: float, cores: Cores) -> tuple[Measurement, int]:
    """A window over a fresh server, and the bytes that it wrote meanwhile."""
    with Fleet.running(SERVER, cores, recording=recording) as fleet:
        fleet.start_streams(_STREAMS)
        fleet.join(_RECEIVERS)
        time.sleep(_SETTLE_S)
        before = fleet.server.figures()["recording_written_bytes_total"]
        with fleet.window() as window:
            time.sleep(seconds)
        return window.measurement, fleet.server.figures()["recording_written_bytes_total"] - before


def _cpu(windows: list[Measurement]) -> float:
    """Percent of a core, at the median: as much as the packets that arrived have cost."""
    return median(100 * window.server_cpu_s / window.seconds for window in windows)


if __name__ == "__main__":
    sys.exit(main())
