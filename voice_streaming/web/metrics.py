"""Counters in their two formats: JSON, and Prometheus' text."""

from __future__ import annotations

from ..process.figures import Figures

PREFIX = "voice_streaming_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus(figures: Figures) -> str:
    """The exposition format 0.0.4: a gauge for each number or truth value; anything else is left out."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, bool | int | float):
            lines += [
                f"# TYPE {PREFIX}{name} gauge",
                f"{PREFIX}{name} {int(value) if isinstance(value, bool) else value}",
            ]
    return "\n".join(lines) + "\n"


def wants_prometheus(accept: str) -> bool:
    """Whether an `Accept` header asks for text rather than JSON."""
    accept = accept.lower()
    return "json" not in accept and ("text/plain" in accept or "openmetrics" in accept)
