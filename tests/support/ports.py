"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

# Below the ranges that Linux (from 32768) and macOS (from 49152) take ports of outgoing connections from, so that no
# client's connection can take a port between the moment it is found free and the moment it is used.
_FIRST_PORT = 20_000
_LAST_PORT = 32_000
_random = random.SystemRandom()


def free_port() -> int:
    """Return a TCP port that nobody on 127.0.0.1 uses now.

    Ports are drawn at random, so that test runs in parallel do not get the same ones.
    """
    for _ in range(100):
        port = _random.randint(_FIRST_PORT, _LAST_PORT)
        with socket.socket() as probe:
            # As servers do it: connections in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port found on 127.0.0.1 between {_FIRST_PORT} and {_LAST_PORT}")
