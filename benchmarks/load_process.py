"""A process of the load: pinned, given commands over a pipe, ended by its owner or with it."""

import asyncio
import gc
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Collection
from multiprocessing.connection import Connection
from typing import Any

Answer = Callable[[Any], Awaitable[Any]]


class LoadError(Exception):
    """A load process could not do what it was told; the text says what and why."""


class LoadProcess:
    """The owner's side: `ask` for a command and its reply, or `begin` and `finish` to have several at work at once."""

    def __init__(self, name: str, main: Callable[..., None], cores: Collection[int], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._name = name
        self._process = context.Process(target=main, args=(far_end, cores, *arguments), name=name, daemon=True)
        self._process.start()
        far_end.close()

    def begin(self, command: object) -> None:
        self._pipe.send(command)

    def finish(self, timeout_s: float) -> Any:
        """The reply. Raises LoadError where the command failed, took longer than that, or the process died."""
        try:
            if not self._pipe.poll(timeout_s):
                raise LoadError(f"the {self._name} did not answer within {timeout_s:.0f} s")
            reply = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise LoadError(f"the {self._name} ended unexpectedly") from error
        if isinstance(reply, LoadError):
            raise reply
        return reply

    def ask(self, command: object, timeout_s: float = 30) -> Any:
        self.begin(command)
        return self.finish(timeout_s)

    def stop(self) -> None:
        """Ask it to end, by closing the pipe; after three seconds, end it."""
        self._pipe.close()
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def raise_open_files_limit() -> None:
    """A receiver takes two descriptors: its WebSocket and its UDP socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls its limit infinite, but takes no more than OPEN_MAX (sys/syslimits.h).
    soft = 10_240 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pin(cores: Collection[int]) -> bool:
    """Keep this process on those cores. False where the system cannot, as macOS."""
    if sys.platform != "linux":
        return False
    os.sched_setaffinity(0, cores)
    return True


def settle(cores: Collection[int]) -> None:
    """What every load process does first. Ctrl-C is the owner's: it closes the pipes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pin(cores)
    raise_open_files_limit()
    # A collection over a thousand peers would show up as jitter; nothing here lives long enough to need one.
    gc.disable()


async def serve_commands(pipe: Connection, answer: Answer) -> None:
    """Answer one command after the other until the owner closes the pipe."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while pipe.poll():
                pipe.send(await _answer_or_error(answer, pipe.recv()))
    except (EOFError, ConnectionError):
        return
    finally:
        loop.remove_reader(pipe.fileno())


async def _answer_or_error(answer: Answer, command: object) -> object:
    try:
        return await answer(command)
    except Exception as error:  # noqa: BLE001 - whatever it was, the owner reports it
        return LoadError(f"{type(command).__name__}: {type(error).__name__}: {error}")
