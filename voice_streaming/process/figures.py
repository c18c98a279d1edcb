"""Counters by the names they have in `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping

Figures = Mapping[str, float | int | bool | str | None]
