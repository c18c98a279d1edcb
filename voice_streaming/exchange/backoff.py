"""How long to wait before another server is asked again."""

from __future__ import annotations

import random

FIRST_S = 1.0
"""A server that restarts is back after about that long."""
LONGEST_S = 30.0


class Backoff:
    """Doubles from FIRST_S to LONGEST_S, and takes off up to a half, so that many clients do not come at once."""

    def __init__(self) -> None:
        self._delay_s = FIRST_S

    def next_s(self, at_least_s: float = 0.0) -> float:
        """The next delay; what the server asks for is followed up to LONGEST_S."""
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_S)
        return max(random.uniform(delay_s / 2, delay_s), min(at_least_s, LONGEST_S))

    def reset(self) -> None:
        self._delay_s = FIRST_S
