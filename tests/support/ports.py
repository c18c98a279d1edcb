"""Free ports on loopback."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

# Below the ranges that Linux (from 32768) and macOS (from 49152) take ports of outgoing connections from, so that no
# client's connection can take a port between the moment it is found free and the moment it is used.
_FIRST_PORT = 20_000
_LAST_PORT = 32_000
_SHARE = 1_500
"""Ports of each of eight processes that run tests side by side."""
_random = random.SystemRandom()
_given: deque[int] = deque(maxlen=500)
"""The latest, which nobody may use yet."""


def _ports() -> range:
    """Of this process: two that found the same port free would take each other's server for their own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if not worker.isdecimal():
        return range(_FIRST_PORT, _LAST_PORT)
    first = _FIRST_PORT + int(worker) % 8 * _SHARE
    return range(first, first + _SHARE)


def free_port() -> int:
    """Return a TCP port that nobody on 127.0.0.1 uses now.

    Ports are drawn at random, so that test runs in parallel do not get the same ones.
    """
    for _ in range(100):
        port = _random.choice(_ports())
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
    raise RuntimeError(f"no free port found on 127.0.0.1 between {_FIRST_PORT} and {_LAST_PORT}")
