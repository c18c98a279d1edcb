"""The figures for Prometheus. `promtool`, which is Prometheus' own, judges the whole answer."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.availability import require_program
from tests.support.server import running_server
from voice_streaming.settings.model import Settings
from voice_streaming.web import metrics
from webrtc_server_relay import VoiceStreamingServer

REPOSITORY = Path(__file__).resolve().parents[2]


def samples(text: str) -> dict[tuple[str, str], float]:
    """By name and the values of its labels."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_has_its_type_its_help_and_its_labels() -> None:
    figures = {"active_streams": 3, "forwarded_packets": 7, "refused_idle": 1, "refused_sdp": 2, "limit_streams": 100}
    body, content_type = metrics.prometheus(figures, "text/plain")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert body.decode().splitlines() == [
        "# HELP voice_streaming_live_streams Streams that are live",
        "# TYPE voice_streaming_live_streams gauge",
        "voice_streaming_live_streams 3.0",
        "# HELP voice_streaming_forwarded_packets_total Packets sent to WebRTC receivers",
        "# TYPE voice_streaming_forwarded_packets_total counter",
        "voice_streaming_forwarded_packets_total 7.0",
        "# HELP voice_streaming_refused_total What was refused; the limits are in voice_streaming_limit",
        "# TYPE voice_streaming_refused_total counter",
        'voice_streaming_refused_total{reason="idle"} 1.0',
        'voice_streaming_refused_total{reason="sdp"} 2.0',
        "# HELP voice_streaming_limit The limits that are set, each in the unit of its name",
        "# TYPE voice_streaming_limit gauge",
        'voice_streaming_limit{limit="streams"} 100.0',
    ]


async def test_every_figure_has_a_metric_or_is_a_sum() -> None:
    figures = VoiceStreamingServer(Settings()).figures()
    missing = [key for key in figures if metrics.family_of(key) is None]
    assert missing == ["dropped_packets"], "give each new figure a family in voice_streaming/web/metrics.py"
    body, _ = metrics.prometheus(figures, "text/plain")
    found = samples(body.decode())
    assert {name for name, _ in found} == metrics.metric_names(figures)
    assert len(found) == len(figures) - len(missing)
    for name, _ in found:
        assert not re.search(r"_(ms|kb|mb|s|count|sum)(_total)?$", name), name


@pytest.mark.parametrize("count", [0, 7, 1_234_567, 9_007_199_254_740_991])
def test_a_count_keeps_every_digit(count: int) -> None:
    body, _ = metrics.prometheus({"total_audio_bytes": count}, "text/plain")
    assert samples(body.decode()) == {("voice_streaming_received_audio_bytes_total", ""): count}


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain", True),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/json, text/plain, */*", False),
        ("TEXT/PLAIN", True),
    ],
)
def test_who_asks_for_prometheus_text_gets_it(accept: str, wanted: bool) -> None:
    assert metrics.wants_prometheus(accept) is wanted


async def test_each_form_says_that_there_is_another() -> None:
    prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75"
    async with running_server() as server, aiohttp.ClientSession() as http:
        for accept, content_type in {
            "": "application/json",
            "text/plain": "text/plain",
            prometheus_2: "application/openmetrics-text",
        }.items():
            async with http.get(server.url("/metrics"), headers={"Accept": accept}) as response:
                assert (response.status, response.content_type) == (200, content_type)
                assert response.headers["Vary"] == "Accept"
                text = await response.text()
            if accept == prometheus_2:
                families = list(open_metrics(text))  # type: ignore[no-untyped-call]
                assert "voice_streaming_refused" in {family.name for family in families}


@pytest.mark.e2e
async def test_promtool_finds_nothing_to_say() -> None:
    promtool = require_program("promtool", str(Path.home() / ".cache" / "voice-streaming" / "promtool"))
    async with (
        running_server(arguments=["--demo"]) as server,
        aiohttp.ClientSession() as http,
        http.get(server.url("/metrics"), headers={"Accept": "text/plain"}) as response,
    ):
        body = await response.read()
    judge = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await judge.communicate(body)
    assert (judge.returncode, said.decode()) == (0, "")


# The dashboard


async def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard: dict[str, Any] = json.loads((REPOSITORY / "docs" / "grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(shown) > 8
    used = {name for expression in shown for name in re.findall(r"voice_streaming_\w+", expression)}
    there = metrics.metric_names(VoiceStreamingServer(Settings()).figures())
    assert used <= there
    counters = {name for name in there if name.endswith("_total")}
    for expression in shown:
        for name in counters & set(re.findall(r"voice_streaming_\w+", expression)):
            assert re.search(rf"(rate|increase)\({name}", expression), expression
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
