"""The thread that blocks in place of the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from voice_streaming.recording.disk import MOST_JOBS, Disk, DiskTooSlow


async def test_jobs_are_done_in_order_and_in_one_other_thread() -> None:
    disk = Disk()
    done: list[tuple[int, int]] = []
    for number in range(100):
        disk.submit(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]
    assert await disk.run(lambda: "last") == "last"
    assert [number for number, _ in done] == list(range(100))
    (thread,) = {thread for _, thread in done}
    assert thread != threading.get_ident()
    disk.close()


async def test_what_fails_fails_where_it_is_waited_for() -> None:
    disk = Disk()
    with pytest.raises(ZeroDivisionError):
        await disk.run(lambda: 1 / 0)
    assert await disk.run(lambda: 2) == 2
    disk.close()


async def test_whoever_does_not_wait_any_more_is_not_told() -> None:
    disk = Disk()
    released = threading.Event()
    waiting = asyncio.ensure_future(disk.run(released.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    released.set()
    assert await disk.run(lambda: 1) == 1
    disk.close()


async def test_a_disk_that_is_stuck_takes_so_many_jobs_and_no_more() -> None:
    disk = Disk()
    released, begun = threading.Event(), threading.Event()

    def stick() -> None:
        begun.set()
        released.wait(30)

    disk.submit(stick)
    begun.wait(10)
    for _ in range(MOST_JOBS):
        disk.submit(lambda: None)
    assert disk.waiting == MOST_JOBS
    with pytest.raises(DiskTooSlow, match="too slow"):
        disk.submit(lambda: None)
    with pytest.raises(DiskTooSlow):
        await disk.run(lambda: None)
    disk.close()
    released.set()
