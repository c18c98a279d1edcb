"""Daemons that need not import everything anew: forks of a process that has done so, on Linux.

Each is a process of its own with the environment, folder, arguments and log of one that was started from its file, and
is there after 0.03 s of a processor instead of 0.5. `python -m tests.support.forked_daemon FD` is the process that
forks them, one for each process that runs tests; it is told what to start over the socket FD.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.process import ENDS_WITH_US, ChildProcess, ended_afterwards

CAN_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")

_MOST_BYTES = 2**17
_PR_SET_PDEATHSIG = 1
"""prctl(2): which signal a process gets when its parent ends."""


class ForkedProcess:
    """As `asyncio.subprocess.Process`, of a fork."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, fate: socket.socket) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._wait(fate), name=f"end of {pid}")

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def _wait(self, fate: socket.socket) -> int:
        with fate:
            message = await asyncio.get_running_loop().sock_recv(fate, _MOST_BYTES)
        if not message:
            raise RuntimeError(f"the process that forked {self.pid} is gone")
        self.returncode = int(message)
        return self.returncode


class _Forker:
    """The process that forks, from the first daemon to `stop`."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def request(self, wish: bytes, files: Sequence[int]) -> None:
        if self._control is None:
            self._control = self._start()
        socket.send_fds(self._control, [wish], files)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*ENDS_WITH_US, sys.executable, "-m", "tests.support.forked_daemon", str(theirs.fileno())],
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return ours

    def stop(self) -> None:
        """Waits for its end, as coverage is written there."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait(timeout=30)
        self._control = self._process = None


_forker = _Forker()
stop = _forker.stop


@asynccontextmanager
async def forked_daemon(
    command: Sequence[str | Path], environment: Mapping[str, str], directory: Path
) -> AsyncIterator[ChildProcess]:
    """As `child_process`, of the program and its arguments."""
    async with ended_afterwards(await _start(command, environment, directory), Path(command[0]).name) as child:
        yield child


async def _start(command: Sequence[str | Path], environment: Mapping[str, str], directory: Path) -> ForkedProcess:
    loop = asyncio.get_running_loop()
    fate, its_fate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fate.setblocking(False)
    reading, writing = os.pipe()
    wish = {"command": list(map(str, command)), "environment": dict(environment), "directory": str(directory)}
    try:
        with its_fate:
            _forker.request(json.dumps(wish).encode(), [writing, its_fate.fileno()])
    finally:
        os.close(writing)
    stdout = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reading, "rb"))
    pid = int(await loop.sock_recv(fate, _MOST_BYTES))
    return ForkedProcess(pid, stdout, fate)


def _fork_as_told(control: socket.socket) -> None:
    """Forks what `control` asks for until that is closed, and tells whoever asked its process' id and exit code."""
    # Here, as whoever runs the tests needs none of it.
    import webrtc_server_relay

    gc.freeze()
    with control, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    wish, files, *_ = socket.recv_fds(control, _MOST_BYTES, 2)
                    if not wish:
                        return
                    stdout, fate = files[0], socket.socket(fileno=files[1])
                    pid = os.fork()
                    if pid == 0:
                        _close_all(selector)
                        _become(json.loads(wish), stdout, fate)
                        sys.exit(webrtc_server_relay.main())
                    os.close(stdout)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, fate))
                else:
                    pid, fate = key.data
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    with fate:
                        _tell(fate, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _close_all(selector: selectors.BaseSelector) -> None:
    """The sockets of the process that forks and of its other daemons."""
    for key in selector.get_map().values():
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
        else:
            os.close(key.fd)
            key.data[1].close()
    selector.close()


def _become(wish: Any, stdout: int, fate: socket.socket) -> None:
    """This process is as one that was started so."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for standard in (1, 2):
        os.dup2(stdout, standard)
    os.close(stdout)
    os.chdir(wish["directory"])
    os.environ.clear()
    os.environ.update(wish["environment"])
    sys.argv = wish["command"]
    with fate:
        _tell(fate, os.getpid())


def _tell(fate: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        fate.send(str(number).encode())


if __name__ == "__main__":
    _fork_as_told(socket.socket(fileno=int(sys.argv[1])))
