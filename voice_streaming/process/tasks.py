"""Background tasks that are held and named, and whose failures are noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .failures import Failures

RESTART_DELAY_S = 5.0
"""How long a supervised task that failed waits before it starts again."""


class Tasks:
    """The tasks of one owner, which cancels them when it closes."""

    def __init__(self, failures: Failures | None = None) -> None:
        """`failures` is told what tasks fail with, by their names."""
        self.failures = Failures() if failures is None else failures
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def supervise(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Runs `work` until it ends by itself, and starts it again RESTART_DELAY_S after a failure."""
        self.spawn(self._supervise(work, name), name)

    async def _supervise(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001 - note logs it
                self.failures.note(name, error)
            await asyncio.sleep(RESTART_DELAY_S)

    async def wait(self) -> None:
        """Waits until all tasks have finished."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def cancel(self) -> None:
        """Cancels all tasks and waits until they have finished."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.failures.note(task.get_name(), error)
