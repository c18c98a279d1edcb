"""Deferred calls, spread over iterations of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .failures import Failures


class Turns:
    """Runs deferred calls in order, one per turn; a turn is an iteration of the event loop.

    Between two of them the loop reads its sockets, so that forwarding waits for one decode or encode at most, however
    many streams have one to do. A call that fails is noted in `failures`, and those after it are made.
    """

    def __init__(self, name: str = "turns", failures: Failures | None = None) -> None:
        self._name = name
        self._failures = Failures() if failures is None else failures
        self._calls: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Runs `call` in a later turn; to be called with a running loop."""
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_soon(self._run_one)

    def _run_one(self) -> None:
        try:
            self._calls[0]()
        except Exception as error:  # noqa: BLE001 - note logs it
            self._failures.note(self._name, error)
        finally:
            self._calls.popleft()
            if self._calls:
                asyncio.get_running_loop().call_soon(self._run_one)
