"""One round: every figure of a server, from its start to its end."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from command import Cores
from fleet import Fleet, Measurement
from load_process import LoadError

Figures = dict[str, float]
Say = Callable[[str], None]

SERVER = "webrtc_server_relay.py"
PLAIN_RELAY = "benchmarks/plain_relay.py"

_LONE_JOINS = 20
_LONE_SECONDS = 5.0
# New receivers settle (timers, caches, the last handshakes) before a window opens over them.
_SETTLE_S = 2.0
# Well below the server's webrtc.media_timeout_s, after which a silent sender is given up.
_IDLE_SECONDS = 6.0
_SEARCH_SECONDS = 5.0
_SEARCH_STEPS = 6
_SEARCH_REFINEMENTS = 2


@dataclass(frozen=True)
class Plan:
    """What a round does. `compared_receivers`: a second, smaller number to measure at, or 0."""

    script: str
    receivers: int
    streams: int
    seconds: float
    joiners: int
    join_s: float
    many_streams: int
    receivers_per_stream: int
    compared_receivers: int = 0


class Round:
    """Runs a plan. `figures` and `doubts` fill as it goes, so that a round that fails half-way still says something."""

    def __init__(self, plan: Plan, cores: Cores, say: Say) -> None:
        self.figures: Figures = {}
        self.doubts: list[str] = []
        self.srtp_profile = ""
        self._plan = plan
        self._cores = cores
        self._say = say

    def run(self) -> None:
        """Raises LoadError only where there is not one figure to show, as when the server does not start."""
        try:
            with Fleet.running(self._plan.script, self._cores) as fleet:
                self._measure_one_stream(fleet)
            if self._plan.many_streams:
                with Fleet.running(self._plan.script, self._cores) as fleet:
                    self._measure_many_streams(fleet)
        except LoadError as error:
            if not self.figures:
                raise
            self._doubt(f"the round ended early: {error}")

    def _measure_one_stream(self, fleet: Fleet) -> None:
        plan = self._plan
        fleet.start_streams(plan.streams)
        self._measure_lone_joins(fleet)
        fleet.leave(keep=0)
        fleet.join(1)
        alone = self._window(fleet, "1 receiver", _LONE_SECONDS)
        self.figures["latency_1_p50_ms"] = alone.latency_ms(50)
        self.figures["latency_1_p99_ms"] = alone.latency_ms(99)
        if plan.compared_receivers:
            self._grow(fleet, 1, plan.compared_receivers)
            compared = self._window(fleet, f"{plan.compared_receivers} receivers", plan.seconds)
            self.figures["compared_cpu_us"] = compared.cpu_us_per_packet
            self.figures["compared_latency_p99_ms"] = compared.latency_ms(99)
        self._grow(fleet, max(plan.compared_receivers, 1), plan.receivers)
        full = self._window(fleet, f"{plan.receivers} receivers", plan.seconds)
        self._note_full(alone, full)
        self._measure_idle(fleet)
        self._measure_joining(fleet)

    def _measure_lone_joins(self, fleet: Fleet) -> None:
        report = fleet.join(_LONE_JOINS, at_once=1)
        self.figures["first_rtp_p50_ms"] = median(report.first_packet_s) * 1e3
        self.figures["first_rtp_max_ms"] = max(report.first_packet_s) * 1e3
        self._note_failures(report.failures)
        self._say(
            f"{_LONE_JOINS} receivers, one by one: first RTP after {self.figures['first_rtp_p50_ms']:.0f} ms (p50)"
        )

    def _grow(self, fleet: Fleet, present: int, wanted: int) -> None:
        if wanted > present:
            started_s = time.monotonic()
            self._note_failures(fleet.join(wanted - present).failures)
            self._say(f"{wanted - present} receivers joined in {time.monotonic() - started_s:.1f} s")
            time.sleep(_SETTLE_S)

    def _note_full(self, alone: Measurement, full: Measurement) -> None:
        more = max(full.receivers - alone.receivers, 1)
        self.srtp_profile = full.srtp_profile
        self.figures |= {
            "receivers": full.receivers,
            "cpu_us": full.cpu_us_per_packet,
            "server_share": full.server_share,
            "client_share": full.client_share,
            "latency_p50_ms": full.latency_ms(50),
            "latency_p99_ms": full.latency_ms(99),
            "latency_max_ms": full.latency_ms(100),
            "expected": full.expected,
            "lost": full.lost,
            "client_drops": full.client_drops,
            "server_drops": full.server_drops,
            "longest_gap_ms": full.longest_gap_ms,
            "memory_mb": (full.resident_bytes - alone.resident_bytes) / more / 1e6,
            "threads": (full.threads - alone.threads) / more,
        }

    def _measure_idle(self, fleet: Fleet) -> None:
        per_receiver_us = fleet.idle_cpu_s(_IDLE_SECONDS) * 1e6 / _IDLE_SECONDS / self._plan.receivers
        self.figures["idle_us_per_receiver_s"] = per_receiver_us
        self._say(f"sender silent: the server uses {per_receiver_us:.0f} us per receiver and second")

    def _measure_joining(self, fleet: Fleet) -> None:
        joiners, join_s = self._plan.joiners, self._plan.join_s
        with fleet.window() as window:
            report = fleet.join(joiners, spread_s=join_s)
            time.sleep(0.5)
        seen = window.measurement
        self._note_failures(report.failures)
        self.figures["join_gap_ms"] = seen.longest_gap_ms
        self.figures["join_lost"] = seen.lost
        self.figures["join_first_rtp_p50_ms"] = median(report.first_packet_s) * 1e3
        self.figures["join_late_tick_max_ms"] = seen.late_tick_max_ms
        self._note(f"while {joiners} joined over {join_s:.0f} s", seen)

    def _measure_many_streams(self, fleet: Fleet) -> None:
        streams, each = self._plan.many_streams, self._plan.receivers_per_stream
        fleet.start_streams(streams)
        self._note_failures(fleet.join(streams * each).failures)
        time.sleep(_SETTLE_S)
        seen = self._window(fleet, f"{streams} streams x {each} receivers", self._plan.seconds)
        self.figures["many_cpu_us"] = seen.cpu_us_per_packet
        self.figures["many_latency_p99_ms"] = seen.latency_ms(99)
        self.figures["many_lost"] = seen.lost

    def _window(self, fleet: Fleet, what: str, seconds: float) -> Measurement:
        with fleet.window() as window:
            time.sleep(seconds)
        self._note(what, window.measurement)
        return window.measurement

    def _note(self, what: str, seen: Measurement) -> None:
        self._say(f"{what}: {in_short(seen)}")
        for doubt in seen.doubts():
            self._doubt(f"{what}: {doubt}")

    def _note_failures(self, failures: list[str]) -> None:
        if failures:
            self._doubt(f"{len(failures)} receivers could not join, the first because of {failures[0]}")

    def _doubt(self, text: str) -> None:
        self.doubts.append(text)
        self._say(f"  note: {text}")


class CapacitySearch:
    """Looks for the largest number of receivers on one stream of which none loses a packet in five seconds."""

    def __init__(self, script: str, cores: Cores, say: Say) -> None:
        self.figures: Figures = {"capacity": 0}
        self.doubts: list[str] = []
        self._script = script
        self._cores = cores
        self._say = say

    def run(self, most: int) -> None:
        """Up in steps to `most` or the first loss; from there by halves, each on a fresh server."""
        good, bad = 0, most + 1
        step = max(most // _SEARCH_STEPS, 1)
        with self._fleet() as fleet:
            while bad > most and good < most:
                wanted = min(good + step, most)
                good, bad = (wanted, bad) if self._carries(fleet, wanted - good, wanted) else (good, wanted)
        for _ in range(_SEARCH_REFINEMENTS):
            wanted = (good + bad) // 2
            if bad > most or wanted == good:
                return
            with self._fleet() as fleet:
                good, bad = (wanted, bad) if self._carries(fleet, wanted, wanted) else (good, wanted)

    @contextlib.contextmanager
    def _fleet(self) -> Iterator[Fleet]:
        with Fleet.running(self._script, self._cores) as fleet:
            fleet.start_streams(1)
            yield fleet

    def _carries(self, fleet: Fleet, more: int, wanted: int) -> bool:
        """Add receivers, measure, and tell whether every one of them joined and got every packet."""
        failures = fleet.join(more).failures
        time.sleep(_SETTLE_S)
        with fleet.window() as window:
            time.sleep(_SEARCH_SECONDS)
        seen = window.measurement
        self._say(f"{wanted} receivers: {in_short(seen)}")
        self.doubts += [f"{wanted} receivers: {doubt}" for doubt in [*seen.doubts(), *failures[:1]]]
        if failures or seen.lost:
            return False
        self.figures = {
            "capacity": wanted,
            "capacity_server_share": seen.server_share,
            "capacity_cpu_us": seen.cpu_us_per_packet,
            "capacity_latency_p99_ms": seen.latency_ms(99),
        }
        return True


def in_short(seen: Measurement) -> str:
    """A measurement in one line."""
    return (
        f"{seen.cpu_us_per_packet:.1f} us a packet, latency {seen.latency_ms(50):.2f} ms p50 "
        f"{seen.latency_ms(99):.2f} ms p99, {seen.lost} of {seen.expected} lost, "
        f"longest gap {seen.longest_gap_ms:.0f} ms, "
        f"server at {seen.server_share:.0%} of its core, clients at {seen.client_share:.0%}"
    )
