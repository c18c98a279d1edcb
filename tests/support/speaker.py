"""A sender in a process of its own, for tests that stop, kill or unplug it. It comes back by itself, as a page does.

    python -m tests.support.speaker WS_URL NAME [ADDRESS]

Each payload is its own number in eight bytes and its process's in eight more. It ends after two minutes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from tests.support.process import ChildProcess, child_process
from tests.support.rtc_client import LOOPBACK, VoiceSender
from tests.support.server import REPOSITORY
from tests.support.signalling import SignallingError, signalling

LONGEST_S = 120
RETRY_S = 0.2


@asynccontextmanager
async def speaker(
    ws_url: str, name: str, *, namespace: str | None = None, address: str = LOOPBACK
) -> AsyncIterator[ChildProcess]:
    """Runs it while the block runs, in a network namespace if one is named."""
    there = ["ip", "netns", "exec", namespace] if namespace else []
    command = [*there, sys.executable, "-m", "tests.support.speaker", ws_url, name, address]
    async with child_process(command, directory=REPOSITORY) as process:
        yield process


async def speak(ws_url: str, name: str, address: str) -> None:
    numbers = itertools.count(1)
    while True:
        with suppress(AssertionError, aiohttp.ClientError, OSError):
            async with signalling(ws_url) as client:
                sender = VoiceSender(client, address)
                while True:
                    await _speak_until_lost(sender, name, numbers)
        await asyncio.sleep(RETRY_S)


async def _speak_until_lost(sender: VoiceSender, name: str, numbers: Iterator[int]) -> None:
    try:
        await sender.start(name=name)
        lost = asyncio.create_task(sender.signalling.expect("error", timeout_s=LONGEST_S))
        while not lost.done():
            await sender.send([next(numbers).to_bytes(8, "big") + os.getpid().to_bytes(8, "big")])
        with suppress(SignallingError):
            await lost
    finally:
        await sender.peer.close()


async def main() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_S):
            await speak(sys.argv[1], sys.argv[2], sys.argv[3])


if __name__ == "__main__":
    asyncio.run(main())
