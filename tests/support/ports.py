"""Free ports on loopback."""

from __future__ import annotations

import functools
import random
import socket
from collections import deque

# Below the ranges that Linux (from 32768) and macOS (from 49152) take ports of outgoing connections from, so that no
# client's connection can take a port between the moment it is found free and the moment it is used.
_FIRST_PORT = 20_000
_LAST_PORT = 32_000
_SHARE = 500
_random = random.SystemRandom()
_given: deque[int] = deque(maxlen=_SHARE // 2)
"""The latest, which nobody may use yet."""


def free_port() -> int:
    """Return a TCP port that nobody on 127.0.0.1 uses now, nor another process that runs tests at the same time.

    Two that found the same port free would take each other's server for their own.
    """
    _, share = _held_share()
    for port in _random.sample(share, len(share)):
        if port in _given:
            continue
        with socket.socket() as probe:
            # As servers do it: connections in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.append(port)
        return port
    raise RuntimeError(f"no free port found on 127.0.0.1 between {share.start} and {share.stop}")


@functools.cache
def _held_share() -> tuple[socket.socket, range]:
    """The ports that this process alone gives, for as long as it runs: it holds the one before them.

    Processes of all checkouts on this machine, and of other root file systems, agree by that.
    """
    for first in range(_FIRST_PORT, _LAST_PORT, _SHARE):
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", first))
        except OSError:
            holder.close()
            continue
        return holder, range(first + 1, first + _SHARE)
    raise RuntimeError(f"{(_LAST_PORT - _FIRST_PORT) // _SHARE} processes run tests already")
