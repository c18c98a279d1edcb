"""One server, its sender and its receivers, driven together; a window over them gives a measurement."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from command import Cores
from load_process import LoadError, LoadProcess
from load_receivers import CloseWindow, Join, JoinReport, Leave, OpenWindow, run_receivers
from load_sender import ReadSender, SenderReading, SetSilent, StartStreams, run_sender
from packet_records import WindowReading
from server_process import ServerProcess, Usage

# What is still under way when a window closes gets this long to arrive; what is later is lost to any listener.
_STRAGGLERS_S = 1.0
_JOIN_TIMEOUT_S = 300.0
# Beyond these, the load rather than the server decides the figures.
_BUSY_CLIENT_SHARE = 0.9
_LATE_TICK_MS = 5.0
_FOREIGN_SHARE = 0.05


@dataclass(frozen=True)
class Measurement:
    """One window. CPU is user + system of the server's process; packets are counted at the receivers.

    `client_share`: of the load's cores, or of one core for its busiest process, whichever is more. `foreign_share`: of
    the server's core, what others than the server used. `marked`: latencies are of every packet,
    by its mark; otherwise of the tones. `late_tick_*`: how late the sender was with its packets, which no relay can
    make good. `ended`, `forged`: receivers that the server dropped, packets that failed SRTP.
    """

    receivers: int
    seconds: float
    sent: int
    expected: int
    received: int
    marked: bool
    server_cpu_s: float
    server_share: float
    client_share: float
    foreign_share: float
    server_drops: int
    client_drops: int
    ended: int
    forged: int
    latencies_ms: npt.NDArray[np.float32]
    longest_gap_ms: float
    late_tick_p99_ms: float
    late_tick_max_ms: float
    refused: int
    resident_bytes: int
    threads: float
    srtp_profile: str

    @property
    def lost(self) -> int:
        """Packets that never reached a receiver, whoever lost them; `client_drops` of them are not the server's."""
        return max(self.expected - self.received, 0)

    @property
    def cpu_us_per_packet(self) -> float:
        return self.server_cpu_s * 1e6 / self.received if self.received else float("nan")

    def latency_ms(self, percentile: float) -> float:
        return float(np.percentile(self.latencies_ms, percentile)) if len(self.latencies_ms) else float("nan")

    def doubts(self) -> list[str]:
        """Reasons why the load or a neighbour, and not the server, may be what was measured."""
        found = []
        if self.client_share > _BUSY_CLIENT_SHARE:
            found.append(f"the client side used {self.client_share:.0%} of its core: it is the bottleneck")
        if self.client_drops:
            found.append(f"the client side was too slow to read {self.client_drops} packets")
        if self.late_tick_p99_ms > _LATE_TICK_MS:
            found.append(f"the sender was late: {self.late_tick_p99_ms:.1f} ms (p99)")
        if self.refused:
            found.append(f"the kernel refused {self.refused} of the sender's packets")
        if self.foreign_share > _FOREIGN_SHARE:
            found.append(f"other processes used {self.foreign_share:.0%} of the server's core")
        if self.ended or self.forged:
            found.append(f"{self.ended} receivers were dropped, {self.forged} packets failed authentication")
        return found


class Fleet:
    """A server under load. Everything that `running` started ends with it; any of its methods may raise LoadError."""

    def __init__(self, server: ServerProcess, sender: LoadProcess, receivers: list[LoadProcess], cores: Cores) -> None:
        self.server = server
        self._sender = sender
        self._processes = receivers
        self._cores = cores
        self._streams: list[tuple[str, int]] = []
        self._joined = 0

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        script: str,
        cores: Cores,
        limits: dict[str, int] | None = None,
        webrtc: dict[str, float] | None = None,
        recording: dict[str, str] | None = None,
    ) -> Iterator["Fleet"]:
        with contextlib.ExitStack() as started:
            server = ServerProcess(script, cores.server, limits, webrtc, recording=recording)
            started.callback(server.stop)
            url = f"{server.url}/ws"
            clients = cores.clients
            sender = LoadProcess("sender", run_sender, clients, url)
            started.callback(sender.stop)
            processes: list[LoadProcess] = []
            for number in range(len(clients)):
                processes.append(LoadProcess(f"receiver process {number + 1}", run_receivers, clients, url))
                started.callback(processes[-1].stop)
            yield cls(server, sender, processes, cores)

    def start_streams(self, count: int) -> None:
        ids: list[str] = self._sender.ask(StartStreams(count), timeout_s=60)
        self._streams = [(stream_id, number) for number, stream_id in enumerate(ids)]

    def join(self, count: int, spread_s: float = 0.0, at_once: int = 8) -> JoinReport:
        """Add receivers, the streams and the processes taking turns. Raises LoadError if none of them got a packet."""
        shares: list[list[tuple[str, int]]] = [[] for _ in self._processes]
        for order in range(self._joined, self._joined + count):
            shares[order % len(shares)].append(self._streams[order % len(self._streams)])
        self._joined += count
        commands = [Join(share, spread_s, at_once) for share in shares]
        report = JoinReport()
        for part in self._ask_receivers(commands, _JOIN_TIMEOUT_S):
            report.first_packet_s += part.first_packet_s
            report.failures += part.failures
        if not report.first_packet_s and report.failures:
            raise LoadError(f"no receiver could join: {report.failures[0]}")
        return report

    def leave(self, keep: int) -> None:
        """Close all receivers but the `keep` that came first."""
        count = len(self._processes)
        self._ask_receivers([Leave((keep + count - 1 - number) // count) for number in range(count)], 60)
        self._joined = keep

    def silence(self, silent: bool) -> None:
        self._sender.ask(SetSilent(silent))

    def idle_cpu_s(self, seconds: float) -> float:
        """What the server uses in that time with everybody connected and nobody speaking."""
        self.silence(True)
        time.sleep(_STRAGGLERS_S)
        before = self.server.read()
        time.sleep(seconds)
        used_s = self.server.read().cpu_s - before.cpu_s
        self.silence(False)
        return used_s

    @contextlib.contextmanager
    def window(self, stragglers_s: float = _STRAGGLERS_S) -> Iterator["Window"]:
        """Measure what happens inside of the `with`; afterwards the window holds its `measurement`.

        What is still under way at its end gets `stragglers_s` to arrive.
        """
        window = Window()
        self._ask_receivers([OpenWindow() for _ in self._processes], 30)
        first: SenderReading = self._sender.ask(ReadSender())
        before, begin_ns = self.server.read(), time.time_ns()
        yield window
        after, end_ns = self.server.read(), time.time_ns()
        last: SenderReading = self._sender.ask(ReadSender())
        time.sleep(stragglers_s)
        bounds = list(zip(first.next_numbers, last.next_numbers, strict=True))
        closing = CloseWindow(bounds, (begin_ns, end_ns))
        readings: list[WindowReading] = self._ask_receivers([closing] * len(self._processes), 60)
        window.measurement = _measurement(before, after, first, last, readings, len(self._cores.clients))

    def _ask_receivers(self, commands: list[Any], timeout_s: float) -> list[Any]:
        for process, command in zip(self._processes, commands, strict=True):
            process.begin(command)
        return [process.finish(timeout_s) for process in self._processes]


class Window:
    """Holds its `measurement` once it is closed."""

    measurement: Measurement


def _measurement(
    before: Usage, after: Usage, first: SenderReading, last: SenderReading, readings: list[WindowReading], cores: int
) -> Measurement:
    seconds = after.at_s - before.at_s
    server_cpu_s = after.cpu_s - before.cpu_s
    clients_cpu_s = [*(reading.cpu_s for reading in readings), last.cpu_s - first.cpu_s]
    late_ms = np.array(last.late_s or [0.0]) * 1e3
    return Measurement(
        receivers=sum(reading.receivers for reading in readings),
        seconds=seconds,
        sent=sum(last.next_numbers) - sum(first.next_numbers),
        expected=sum(reading.expected for reading in readings),
        received=sum(reading.received for reading in readings),
        marked=all(reading.marked for reading in readings),
        server_cpu_s=server_cpu_s,
        server_share=server_cpu_s / seconds,
        client_share=max(sum(clients_cpu_s) / cores, max(clients_cpu_s)) / seconds,
        foreign_share=max(after.core_busy_s - before.core_busy_s - server_cpu_s, 0) / seconds,
        server_drops=after.socket_drops - before.socket_drops,
        client_drops=sum(reading.socket_drops for reading in readings),
        ended=sum(reading.ended for reading in readings),
        forged=sum(reading.forged for reading in readings),
        latencies_ms=np.concatenate(
            [*(reading.latencies_ms for reading in readings), _tone_latencies_ms(last, readings)]
        ),
        longest_gap_ms=max(reading.longest_gap_ms for reading in readings),
        late_tick_p99_ms=float(np.percentile(late_ms, 99)),
        late_tick_max_ms=float(late_ms.max()),
        refused=last.refused - first.refused,
        resident_bytes=after.resident_bytes,
        threads=after.threads,
        srtp_profile=readings[0].srtp_profile,
    )


def _tone_latencies_ms(sender: SenderReading, readings: list[WindowReading]) -> npt.NDArray[np.float32]:
    """Each tone that arrived belongs to the last departure of that tone before it; the same tone is 5 s apart."""
    latencies_ms = []
    for stream, tone, arrival_ns in (heard for reading in readings for heard in reading.tones):
        departures_ns = [at_ns for sent, at_ns in sender.tones[stream] if sent == tone and at_ns <= arrival_ns]
        if departures_ns:
            latencies_ms.append((arrival_ns - departures_ns[-1]) / 1e6)
    return np.array(latencies_ms, np.float32)
