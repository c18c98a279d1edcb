"""Background tasks that are held, named, and whose failure is logged once with its cause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

RESTART_DELAY_S = 5.0
"""How long a supervised task that failed waits before it starts again, and how long it must run to count as well."""


class Tasks:
    """The tasks of one owner, which cancels them when it closes."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        """By name: what the supervised tasks that are not well failed with."""
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
            recovery = asyncio.get_running_loop().call_later(RESTART_DELAY_S, self._recover, name)
            try:
                await work()
                return
            except Exception as error:
                if name not in self.failures:
                    logger.exception("Task %s failed; it starts again every %g s", name, RESTART_DELAY_S)
                self.failures[name] = repr(error)
            finally:
                recovery.cancel()
            await asyncio.sleep(RESTART_DELAY_S)

    def _recover(self, name: str) -> None:
        if self.failures.pop(name, None) is not None:
            logger.info("Task %s runs again", name)

    async def cancel(self) -> None:
        """Cancels all tasks and waits until they have finished."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Task %s failed", task.get_name(), exc_info=error)
