from __future__ import annotations

import asyncio
import mmap
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from voice_streaming.process.resources import process_figures


async def test_figures_show_what_leaks() -> None:
    before = process_figures()
    task = asyncio.create_task(asyncio.sleep(60))
    with socket.socket():
        during = process_figures()
    task.cancel()
    assert during["tasks"] == before["tasks"] + 1
    assert during["open_files"] == before["open_files"] + 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its own memory and threads")
async def test_figures_show_memory_and_threads() -> None:
    before = process_figures()
    # Of the system's: what a library keeps of memory that was freed would not show.
    with mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as kept:
        kept.write(b"\1" * len(kept))
        grown = process_figures()["resident_bytes"] - before["resident_bytes"]
    assert 0.8 * 50_000_000 < grown < 3 * 50_000_000
    release = threading.Event()
    waiting = asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), release.wait)
    assert process_figures()["threads"] == before["threads"] + 1
    release.set()
    await waiting
