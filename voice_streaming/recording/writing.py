"""One file that is being written, seen from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from .disk import Disk, DiskTooSlow
from .folder import UnfinishedFile

Failed = Callable[[OSError], None]


class Writing:
    """Each call returns at once; the disk's thread does them in their order. After a failure nothing more is done."""

    def __init__(self, disk: Disk, folder: Path, name: str, on_failed: Failed) -> None:
        """`on_failed` is called once, in the event loop, unless it is `finish` that fails."""
        self._disk = disk
        self._file = UnfinishedFile(folder, name)
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._error: OSError | None = None
        """The thread's alone."""
        self.has_written = False
        """Whether something is on the disk; set by the thread."""

    @property
    def unfinished_name(self) -> str:
        return self._file.unfinished_name

    def open(self) -> None:
        """Raises DiskTooSlow."""
        self._disk.submit(lambda: self._attempt(self._file.open))

    def write(self, data: bytes) -> None:
        """Raises DiskTooSlow."""
        self._disk.submit(lambda: self._attempt(lambda: self._write(data)))

    async def finish(self, data: bytes) -> int:
        """Writes the last data, and gives the size of the file. Raises OSError, its earlier failure again."""
        return await self._disk.run(lambda: self._finish(data))

    def abandon(self) -> None:
        """Keeps what has been written, and writes nothing more."""
        # Where the disk is too slow even for that, the next start repairs it.
        with contextlib.suppress(DiskTooSlow):
            self._disk.submit(lambda: self._give_up(None))

    def _attempt(self, job: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            job()
        except OSError as error:
            self._give_up(error)
            # A loop that is closed has nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_failed, error)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.has_written = True

    def _give_up(self, error: OSError | None) -> None:
        if self._error is None:
            self._error = error or OSError("it was given up")
            self._file.rescue()

    def _finish(self, data: bytes) -> int:
        if self._error is not None:
            raise self._error
        try:
            self._file.write(data)
            return self._file.finish()
        except OSError as error:
            self._give_up(error)
            raise
