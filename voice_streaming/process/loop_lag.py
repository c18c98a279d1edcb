"""The lag of the event loop."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque

LAG_INTERVAL_S = 0.25
LAG_WINDOW_S = 60.0


class LoopLag:
    """How late the event loop runs callbacks, over the last minute."""

    def __init__(self) -> None:
        self._lags_s: deque[float] = deque(maxlen=round(LAG_WINDOW_S / LAG_INTERVAL_S))

    async def run(self) -> None:
        """Measures until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lags_s.append(max(0.0, loop.time() - due_s))

    def figures(self) -> dict[str, float]:
        """For `/metrics`: seconds, over the last minute."""
        lags_s = self._lags_s or [0.0]
        return {
            "loop_lag_p50_seconds": round(statistics.median(lags_s), 6),
            "loop_lag_max_seconds": round(max(lags_s), 6),
        }
