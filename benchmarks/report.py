"""The table that a run ends with, and the same as JSON."""

import math
from dataclasses import dataclass, field
from typing import Any, TextIO

from rounds import Figures


@dataclass
class Report:
    """What a run found. `server` and `baseline` are the medians of their rounds; `doubts` limit what they are worth."""

    date: str
    machine: str
    srtp_profile: str = ""
    server: Figures = field(default_factory=dict)
    baseline: Figures = field(default_factory=dict)
    server_rounds: list[Figures] = field(default_factory=list)
    baseline_rounds: list[Figures] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        ratios = {_RATIO_NAME.get(name, name): ratio for name, ratio in _ratios(self).items()}
        without_nan: dict[str, Any] = _without_nan({**vars(self), "ratios": ratios})
        return without_nan


@dataclass(frozen=True)
class _Row:
    label: str
    figure: str
    form: str = "{:.2f}"
    goal: str = ""
    baseline_figure: str = ""


_ROWS = (
    _Row("receivers", "receivers", "{:.0f}"),
    _Row("server CPU per forwarded packet, us", "cpu_us", "{:.1f}", "<= 11"),
    _Row("  the same, with the plain relay's receivers", "compared_cpu_us", "{:.1f}", "", "cpu_us"),
    _Row("server CPU, sender silent, us per receiver and second", "idle_us_per_receiver_s", "{:.0f}"),
    _Row("server's share of its core", "server_share", "{:.0%}"),
    _Row("latency added, 1 receiver, p50, ms", "latency_1_p50_ms", "{:.2f}", "<= 0.5"),
    _Row("latency added, 1 receiver, p99, ms", "latency_1_p99_ms", "{:.2f}", "<= 2"),
    _Row("latency added, all receivers, p50, ms", "latency_p50_ms"),
    _Row("latency added, all receivers, p99, ms", "latency_p99_ms", "{:.2f}", "<= 12"),
    _Row(
        "  the same, with the plain relay's receivers",
        "compared_latency_p99_ms",
        "{:.2f}",
        "",
        "latency_p99_ms",
    ),
    _Row("packets lost", "lost", "{:.0f}", "0"),
    _Row("  of packets expected", "expected", "{:.0f}"),
    _Row("longest gap, nobody joining, ms", "longest_gap_ms", "{:.0f}"),
    _Row("start_receiving to first RTP, p50, ms", "first_rtp_p50_ms", "{:.0f}", "<= 60"),
    _Row("longest gap while others join within 3 s, ms", "join_gap_ms", "{:.0f}", "<= 60"),
    _Row("  packets lost meanwhile", "join_lost", "{:.0f}", "0"),
    _Row("  the joiners' first RTP, p50, ms", "join_first_rtp_p50_ms", "{:.0f}"),
    _Row("memory per receiver, MB", "memory_mb", "{:.3f}", "<= 0.25"),
    _Row("threads per receiver", "threads", "{:.2f}", "0"),
    _Row("20 streams x 20 receivers: CPU per forwarded packet, us", "many_cpu_us", "{:.1f}", "<= 15"),
    _Row("  latency added, p99, ms", "many_latency_p99_ms"),
    _Row("  packets lost", "many_lost", "{:.0f}", "0"),
    _Row("protecting and sending alone, in C: CPU per packet, us", "floor_us"),
    _Row("  of it, copying and protecting", "floor_protect_us"),
    _Row("  of it, sendmmsg", "floor_send_us"),
    _Row("  the server's CPU per forwarded packet, times this", "floor_ratio", "{:.2f}", "<= 1.25"),
    _Row("20 streams x 20 receivers: protecting and sending alone, us", "many_floor_us"),
    _Row("  of it, copying and protecting", "many_floor_protect_us"),
    _Row("  of it, sendmmsg", "many_floor_send_us"),
    _Row("  the server's CPU per forwarded packet, times this", "many_floor_ratio"),
    _Row("  the server's CPU per forwarded packet, times that of one stream", "many_to_one", "{:.2f}", "<= 1.4"),
    _Row("receivers on one stream without a lost packet", "capacity", "{:.0f}", "1,500"),
    _Row("  server's share of its core", "capacity_server_share", "{:.0%}"),
    _Row("  server CPU per forwarded packet, us", "capacity_cpu_us", "{:.1f}"),
    _Row("  latency added, p99, ms", "capacity_latency_p99_ms"),
)
_NO_RATIO = {"receivers", "lost", "expected", "join_lost", "server_share"}
_RATIO_NAME = {"compared_cpu_us": "cpu_us_same_receivers", "compared_latency_p99_ms": "latency_p99_ms_same_receivers"}


def print_table(report: Report, out: TextIO) -> None:
    """As Markdown, so that it can be kept in the README as it is."""
    with_baseline = bool(report.baseline)
    ratios = _ratios(report)
    heads = ["figure", "goal", "server", *(["plain aiortc", "times better"] if with_baseline else [])]
    print(f"\n{report.date}. {report.machine}. {report.srtp_profile}\n", file=out)
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", file=out)
    for row in _ROWS:
        if row.figure not in report.server:
            continue
        cells = [row.label, row.goal, _cell(row, report.server.get(row.figure))]
        if with_baseline:
            ratio = ratios.get(row.figure)
            cells += [_cell(row, _baseline_of(row, report)), "" if ratio is None else f"{ratio:.1f}"]
        print(f"| {' | '.join(cells)} |", file=out)
    for doubt in report.doubts:
        print(f"\nNote: {doubt}.", file=out)


def _baseline_of(row: _Row, report: Report) -> float | None:
    return report.baseline.get(row.baseline_figure or row.figure)


def _ratios(report: Report) -> Figures:
    """How many times less the server needs than the plain relay, where that means something."""
    ratios = {}
    for row in _ROWS:
        ours, theirs = report.server.get(row.figure), _baseline_of(row, report)
        if row.figure not in _NO_RATIO and ours and theirs is not None and ours > 0 and not math.isnan(theirs):
            ratios[row.figure] = theirs / ours
    return ratios


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a figure that could not be measured is null."""
    match value:
        case dict():
            return {key: _without_nan(item) for key, item in value.items()}
        case list():
            return [_without_nan(item) for item in value]
        case float() if math.isnan(value):
            return None
    return value


def _cell(row: _Row, value: float | None) -> str:
    return "—" if value is None or math.isnan(value) else row.form.format(value)
