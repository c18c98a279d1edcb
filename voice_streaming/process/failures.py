"""What is not well now: one register for tasks, timers and deferred calls, read by `/health`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

RECOVERY_S = 10.0
"""What failed counts as well again when it has not failed for so long: longer than a failed task or timer waits."""


class Failures:
    """The failures of one process, by the name of what failed. To be used with a running loop."""

    def __init__(self) -> None:
        self.total = 0
        """Failures since the start."""
        self._causes: dict[str, str] = {}
        self._lasting: dict[str, str] = {}
        self._recoveries: dict[str, asyncio.TimerHandle] = {}

    @property
    def problems(self) -> dict[str, str]:
        """What failed within the last RECOVERY_S, each with its newest cause, and what is held; a copy."""
        return {**self._lasting, **self._causes}

    def hold(self, name: str, cause: str) -> None:
        """A problem that does not go by itself, until `release`; it is neither counted nor logged."""
        self._lasting[name] = cause

    def release(self, name: str) -> None:
        """The opposite of `hold`; safe when nothing is held."""
        self._lasting.pop(name, None)

    def note(self, name: str, error: Exception) -> None:
        """Counts a failure, and logs it with its traceback unless `name` is a problem already."""
        self.total += 1
        if name in self._causes:
            self._recoveries[name].cancel()
        else:
            logger.error("%s failed", name, exc_info=error)
        self._causes[name] = repr(error)
        self._recoveries[name] = asyncio.get_running_loop().call_later(RECOVERY_S, self._recover, name)

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """An exception of the block is noted under `name` and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - note logs it
            self.note(name, error)

    def _recover(self, name: str) -> None:
        del self._causes[name], self._recoveries[name]
        logger.info("%s is well again", name)
