"""What every benchmark does as a command: it shares out the cores, and ends what it started however it ends itself."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import machine
from load_process import LoadError, pin, raise_open_files_limit


@dataclass(frozen=True)
class Cores:
    """The server's core, and those of the load."""

    server: int
    clients: frozenset[int]


def share_out_cores(most_clients: int = 1) -> Cores:
    """The first core that this process may use is the server's; so many of the others, at most, are the load's."""
    if not machine.LINUX:
        return Cores(0, frozenset({0}))
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores(first, frozenset(others[:most_clients] or [first]))


def run(work: Callable[[], int], cores: Cores) -> int:
    """The exit code: what `work` returns, 2 where the load failed, 130 where it was interrupted (by SIGTERM too)."""
    signal.signal(signal.SIGTERM, _interrupt)
    raise_open_files_limit()
    if not pin(cores.clients):
        print("note: this system cannot pin processes to cores: server and load disturb each other", file=sys.stderr)
    elif cores.server in cores.clients:
        print("note: there is only one core: server and load share it, and every figure suffers", file=sys.stderr)
    try:
        return work()
    except LoadError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """As Ctrl-C: what was started is ended on the way out."""
    raise KeyboardInterrupt
