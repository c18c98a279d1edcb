"""The one thread of recordings, as files block."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

MOST_JOBS = 2048
"""Waiting jobs. Each recording writes twice a second: 100 of them may wait ten seconds for a disk."""

Result = TypeVar("Result")
Job = Callable[[], None]


class DiskTooSlow(OSError):
    """As many jobs wait for the disk as may."""


class Disk:
    """Does jobs one after the other, away from the event loop. It ends with the process, whatever a job waits for."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Job | None] = queue.Queue(MOST_JOBS)
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Jobs that are not done yet."""
        return self._jobs.qsize()

    def submit(self, job: Job) -> None:
        """Has the job done, which must not raise. Raises DiskTooSlow at once where too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise DiskTooSlow(f"the disk is too slow: {MOST_JOBS} writes wait for it") from None

    async def run(self, job: Callable[[], Result]) -> Result:
        """What the job returns or raises; DiskTooSlow as well."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                settle = functools.partial(done.set_exception, error)
            else:
                settle = functools.partial(done.set_result, result)
            # Whoever waited may have been cancelled, and the loop may be closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None if done.done() else settle())

        self.submit(run)
        return await done

    def close(self) -> None:
        """After the jobs that wait, if there is room to say so."""
        if self._thread is not None:
            # Where the queue is full, the thread is stuck; as a daemon it ends with the process.
            with contextlib.suppress(queue.Full):
                self._jobs.put_nowait(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
