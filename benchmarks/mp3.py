"""Measure what the live MP3 costs and how far behind it is. See benchmarks/README.md.

    python benchmarks/mp3.py                       1,000 and 2,000 listeners, 20 streams, delays: about a minute
    python benchmarks/mp3.py --ogg 60 100          the same listeners by turns on the Ogg, with pages of so many ms
    python benchmarks/mp3.py --icecast             the same listeners by turns on a real Icecast, and the ratio
    python benchmarks/mp3.py --simulate-hours 1    the delay over an hour, in virtual time: a few minutes

It measures and prints; it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import datetime
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import command
import machine
from command import Cores, share_out_cores
from icecast import MOUNT, Icecast
from load_process import LoadProcess
from load_sender import ReadSender, SenderReading, StartStreams, run_sender
from mp3_delay import delays_s, simulated_delays_s
from mp3_listeners import Join, JoinReport, Listen, Record, Recording, Window, in_short, run_listeners
from rounds import SERVER
from server_process import ServerProcess

NEWCOMERS = 5
RECORD_S = 4.0


@dataclass(frozen=True)
class Cost:
    """Of a window: the server's CPU, in microseconds per listener and second, and the listeners' longest gap."""

    listeners: int
    cpu_us: float
    share: float
    longest_gap_ms: float
    load_share: float
    first_audio_p50_ms: float
    bytes_per_s: float


def main() -> int:
    options = _parse_options()
    cores = share_out_cores(most_clients=os.cpu_count() or 1)
    return command.run(lambda: _run(options, cores), cores)


def _run(options: argparse.Namespace, cores: Cores) -> int:
    print(f"{datetime.date.today().isoformat()}. {machine.describe()}")
    if options.simulate_hours:
        _simulate(options.simulate_hours)
    else:
        _measure(options, cores)
    return 0


def _measure(options: argparse.Namespace, cores: Cores) -> None:
    for round_number in range(1, options.rounds + 1):
        print(f"\nRound {round_number}")
        for count in options.listeners:
            ours = _measure_ours(cores, count, options.seconds)
            _print("this server", ours)
            for page_ms in options.ogg:
                ogg = _measure_ours(cores, count, options.seconds, page_ms)
                _print(f"this server's Ogg, pages of {page_ms} ms", ogg)
                print(f"  {count} listeners: {ogg.cpu_us / ours.cpu_us:.2f} of the MP3's CPU")
            if options.icecast:
                theirs = _measure_icecast(cores, count, options.seconds)
                _print("Icecast", theirs)
                print(f"  {count} listeners: {ours.cpu_us / theirs.cpu_us:.2f} of Icecast's CPU")
    if not options.ogg:
        _measure_streams(cores, options.seconds)


@contextmanager
def _radio(
    cores: Cores, audio: dict[str, int] | None = None
) -> Iterator[tuple[ServerProcess, LoadProcess, LoadProcess]]:
    """The server, its senders and its listeners."""
    with ExitStack() as stack:
        server = ServerProcess(SERVER, cores.server, audio=audio)
        stack.callback(server.stop)
        sender = LoadProcess("sender", run_sender, cores.clients, server.url)
        stack.callback(sender.stop)
        audience = LoadProcess("listeners", run_listeners, cores.clients)
        stack.callback(audience.stop)
        yield server, sender, audience


def _measure_ours(cores: Cores, count: int, seconds: float, page_ms: int | None = None) -> Cost:
    """With a real sender over WebRTC: its decryption, decoding and encoding are in the figure. The MP3, or the Ogg with
    pages of that length."""
    with _radio(cores, {"ogg_page_ms": page_ms} if page_ms else None) as (server, sender, audience):
        (stream_id,) = sender.ask(StartStreams(1))
        port = server.port
        path = f"/stream/{stream_id}.{'ogg' if page_ms else 'mp3'}"
        joined: JoinReport = audience.ask(Join(port, path, count, spread_s=count / 200), 120)
        _note_failures(joined)
        time.sleep(1)
        before = server.read()
        window: Window = audience.ask(Listen(seconds), seconds + 30)
        after = server.read()
        cost = _cost(after.cpu_s - before.cpu_s, window, joined, seconds)
        if page_ms is None:
            _print_delays(sender, audience, port, path)
        return cost


def _measure_icecast(cores: Cores, count: int, seconds: float) -> Cost:
    """Fed with an MP3 that is encoded elsewhere, which is not in the figure."""
    with ExitStack() as stack:
        icecast = Icecast(cores.server, cores.clients, clients=count + 20, bitrate_bps=128_000)
        stack.callback(icecast.stop)
        audience = LoadProcess("listeners", run_listeners, cores.clients)
        stack.callback(audience.stop)
        joined: JoinReport = audience.ask(Join(icecast.port, MOUNT, count, spread_s=count / 200), 120)
        _note_failures(joined)
        time.sleep(1)
        before_s = icecast.cpu_s
        window: Window = audience.ask(Listen(seconds), seconds + 30)
        return _cost(icecast.cpu_s - before_s, window, joined, seconds)


def _measure_streams(cores: Cores, seconds: float) -> None:
    """What the encoder costs: one stream, and twenty, with one listener each."""
    for count in (1, 20):
        with _radio(cores) as (server, sender, audience):
            ids = sender.ask(StartStreams(count), 60)
            time.sleep(1)
            before = server.read()
            time.sleep(seconds)
            silent = server.read()
            for stream_id in ids:
                _note_failures(audience.ask(Join(server.port, f"/stream/{stream_id}.mp3", 1, 0)))
            time.sleep(1)
            begun = server.read()
            audience.ask(Listen(seconds), seconds + 30)
            ended = server.read()
            with_mp3 = (ended.cpu_s - begun.cpu_s) / (ended.at_s - begun.at_s)
            without = (silent.cpu_s - before.cpu_s) / (silent.at_s - before.at_s)
            print(f"{count} streams with a listener each: {with_mp3:.1%} of a core, {without:.1%} without listeners")
            _print_encoder(server)


def _print_encoder(server: ServerProcess) -> None:
    figures = server.figures()
    # Only a server that shows its MP3 figures can tell.
    if figures.get("mp3_encoded_seconds_total"):
        share = figures["mp3_encoder_cpu_seconds_total"] / figures["mp3_encoded_seconds_total"]
        print(f"  resampling and encoding: {share:.2%} of a core per stream")


def _print_delays(sender: LoadProcess, audience: LoadProcess, port: int, path: str) -> None:
    """End to end, of newcomers at different moments."""
    recordings: list[Recording] = []
    for _ in range(NEWCOMERS):
        recordings.append(audience.ask(Record(port, path, RECORD_S), RECORD_S + 30))
        time.sleep(0.13)
    reading: SenderReading = sender.ask(ReadSender())
    departures_s = [departure_ns / 1e9 for _, departure_ns in reading.tones[0]]
    delays = [
        delay_s
        for recording in recordings
        for delay_s in delays_s(recording.audio, recording.first_audio_ns / 1e9, departures_s)
    ]
    print(
        f"  microphone to player, {len(delays)} tones of {NEWCOMERS} newcomers: "
        f"{min(delays) * 1e3:.0f} to {max(delays) * 1e3:.0f} ms, {median(delays) * 1e3:.0f} ms at the median"
    )


def _simulate(hours: float) -> None:
    for ppm in (200.0, -200.0):
        delays = simulated_delays_s(hours, ppm)
        minute = 60
        begun, ended = delays[minute : 2 * minute], delays[-minute:]
        print(
            f"{hours:g} h, a sender's clock off by {ppm:+.0f} ppm: {len(delays)} tones, delay "
            f"{median(begun) * 1e3:.1f} ms in the second minute, {median(ended) * 1e3:.1f} ms in the last, "
            f"{min(delays) * 1e3:.1f} to {max(delays) * 1e3:.1f} ms overall"
        )


def _cost(cpu_s: float, window: Window, joined: JoinReport, seconds: float) -> Cost:
    listeners = len(window.gaps_s)
    if window.lost_listeners:
        print(f"  note: {window.lost_listeners} listeners were disconnected")
    return Cost(
        listeners=listeners,
        cpu_us=cpu_s * 1e6 / seconds / listeners,
        share=cpu_s / seconds,
        longest_gap_ms=max(window.gaps_s) * 1e3,
        load_share=window.cpu_s / seconds,
        first_audio_p50_ms=median(joined.first_audio_s) * 1e3,
        bytes_per_s=window.audio_bytes / seconds / listeners,
    )


def _print(who: str, cost: Cost) -> None:
    print(
        f"  {who}, {cost.listeners} listeners: {cost.cpu_us:.1f} us of CPU per listener and second "
        f"({cost.share:.0%} of the core), longest gap {cost.longest_gap_ms:.0f} ms, first audio after "
        f"{cost.first_audio_p50_ms:.0f} ms at the median; the listeners used {cost.load_share:.0%} of their core; "
        f"{cost.bytes_per_s:.0f} bytes per listener and second"
    )


def _note_failures(report: JoinReport) -> None:
    if report.failures:
        print(f"  note: {len(report.failures)} could not join, the first because of {report.failures[0]}")
    if len(report.first_audio_s) > 1:
        print(f"  {len(report.first_audio_s)} joined: {in_short(report)}")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[1000, 2000])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measured window")
    parser.add_argument("--rounds", type=int, default=1, help="by turns with Icecast")
    parser.add_argument("--ogg", type=int, nargs="+", default=[], metavar="PAGE_MS", help="measure the Ogg too")
    parser.add_argument("--icecast", action="store_true", help="measure Debian's icecast2 too")
    parser.add_argument("--simulate-hours", type=float, default=0.0, help="only the delay over so long a time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
