"""Child processes that end when they should, and tell what they said."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """What is needed of a process that was started."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    def send_signal(self, signal: int) -> None: ...

    async def wait(self) -> int: ...


class ChildProcess:
    """A running program of the test's, in a process group of its own.

    `log` holds the lines of its standard output and error so far, without line ends.
    """

    def __init__(self, process: Process, name: str) -> None:
        self.log: list[str] = []
        self._process = process
        self._name = name
        self._line_arrived = asyncio.Condition()
        self._reader = asyncio.create_task(self._read_log(), name=f"log of {name}")

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the program runs; negative for the signal that ended it."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        return self._process.pid

    def log_text(self, last_lines: int = 60) -> str:
        """The end of the log, for an error message."""
        return f"log of {self._name}:\n" + "\n".join(f"    {line}" for line in self.log[-last_lines:])

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait(self, timeout_s: float) -> int:
        """Return the exit code, when the program has ended and its log is complete; TimeoutError if it does not end."""
        async with asyncio.timeout(timeout_s):
            exit_code = await self._process.wait()
            await self._reader
        return exit_code

    async def wait_for_log(self, text: str, timeout_s: float = 10, *, after: int = 0) -> str:
        """Return the first line that contains `text`, `after` so many others; AssertionError if none comes in time."""
        try:
            async with asyncio.timeout(timeout_s), self._line_arrived:
                while not (found := [line for line in self.log[after:] if text in line]):
                    await self._line_arrived.wait()
                return found[0]
        except TimeoutError:
            raise AssertionError(f"no line with {text!r} within {timeout_s} s; {self.log_text()}") from None

    async def kill(self) -> None:
        """End the program and every process that it started, at once."""
        # Its group may be there when it is gone itself, and the other way round; both are what is wanted.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        # Someone may have left the group and still hold the pipe: its words are not worth waiting for.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reader, timeout=1)

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._line_arrived:
                self.log.append(line.decode(errors="replace").rstrip("\r\n"))
                self._line_arrived.notify_all()


ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
"""Where there is util-linux: a test that is killed itself leaves no daemon and no browser behind (prctl(2))."""


@asynccontextmanager
async def child_process(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    user: str | None = None,
) -> AsyncIterator[ChildProcess]:
    """Run a program without standard input while the block runs; afterwards it is gone, with all that it started.

    Only root can name another `user`.
    """
    process = await asyncio.create_subprocess_exec(
        *ENDS_WITH_US,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=directory,
        user=user,
        start_new_session=True,
        limit=2**20,
    )
    async with ended_afterwards(process, Path(command[0]).name) as child:
        yield child


@asynccontextmanager
async def ended_afterwards(process: Process, name: str) -> AsyncIterator[ChildProcess]:
    """The process while the block runs; afterwards it is gone, with all that it started."""
    child = ChildProcess(process, name)
    try:
        yield child
    finally:
        await child.kill()
