from __future__ import annotations

import pytest

from voice_streaming.web import metrics


def test_numbers_and_truth_values_become_gauges_and_the_rest_is_left_out() -> None:
    text = metrics.prometheus({"a": 3, "b": 1.5, "c": True, "d": "text", "e": None})
    assert text.splitlines() == [
        "# TYPE voice_streaming_a gauge",
        "voice_streaming_a 3",
        "# TYPE voice_streaming_b gauge",
        "voice_streaming_b 1.5",
        "# TYPE voice_streaming_c gauge",
        "voice_streaming_c 1",
    ]
    assert text.endswith("\n")


@pytest.mark.parametrize("count", [0, 7, 1_234_567, 9_007_199_254_740_991])
def test_a_count_keeps_every_digit(count: int) -> None:
    (_, line) = metrics.prometheus({"total_audio_bytes": count}).splitlines()
    assert float(line.split()[1]) == count


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
