"""What asyncio's transports hold, below TLS too."""

from __future__ import annotations

import asyncio
import socket
import sys

if sys.platform == "linux":
    import fcntl
    import struct
    import termios


def below_tls(transport: asyncio.Transport) -> asyncio.Transport:
    """The transport that writes to the socket: itself, where there is no TLS.

    asyncio of Python 3.11 to 3.13 has no public name for it.
    """
    lower: asyncio.Transport | None = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return lower or transport


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What was written and the other side's kernel has not acknowledged.

    Elsewhere than on Linux, what is in the kernel is not counted.
    """
    lower = below_tls(transport)
    unsent = transport.get_write_buffer_size() + _unacknowledged_bytes(transport.get_extra_info("socket"))
    return unsent if lower is transport else unsent + lower.get_write_buffer_size()


def _unacknowledged_bytes(connection: socket.socket | None) -> int:
    """Linux' SIOCOUTQ, which is TIOCOUTQ (tcp(7))."""
    # A closed socket's descriptor is -1.
    if sys.platform != "linux" or connection is None or connection.fileno() < 0:
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)
