"""A lock between processes that run tests: while some load pages, no others change the machine's network interfaces.

Chromium gives up whatever it is loading when an address of the machine comes or goes (net::ERR_NETWORK_CHANGED), and a
page that misses one of its scripts does nothing. Tests with hosts of their own make such changes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / f"voice-streaming-test-addresses-{os.getuid()}"


@asynccontextmanager
async def addresses_that_stay() -> AsyncIterator[None]:
    """While the block runs, no `addresses_that_change` does; others of this kind may."""
    async with _locked(fcntl.LOCK_SH):
        yield


@asynccontextmanager
async def addresses_that_change() -> AsyncIterator[None]:
    """While the block runs, no other does."""
    async with _locked(fcntl.LOCK_EX):
        yield


@asynccontextmanager
async def _locked(kind: int) -> AsyncIterator[None]:
    descriptor = os.open(_LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, kind)
        yield
    finally:
        # It unlocks, too.
        os.close(descriptor)
