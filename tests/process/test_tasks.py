from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from voice_streaming.process import failures as failures_module
from voice_streaming.process import tasks as tasks_module
from voice_streaming.process.tasks import Tasks


async def test_a_failure_is_logged_once_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("by design")

    tasks = Tasks()
    task = tasks.spawn(fail(), "divide")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    await tasks.cancel()
    del task
    gc.collect()
    (record,) = caplog.records
    assert record.getMessage() == "divide failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert tasks.failures.problems == {"divide": "ZeroDivisionError('by design')"}


async def test_cancel_waits_until_all_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def stay(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    tasks = Tasks()
    running = [tasks.spawn(stay(number), f"stay-{number}") for number in range(3)]
    await asyncio.sleep(0)
    await tasks.cancel()
    assert sorted(ended) == [0, 1, 2]
    assert all(task.cancelled() for task in running)
    assert caplog.records == []
    await tasks.cancel()


async def test_a_task_is_held_until_it_ends() -> None:
    """The event loop holds only a weak reference to a task that waits for something that nobody else holds."""
    finished = asyncio.Event()

    async def wait_long() -> None:
        await asyncio.get_running_loop().create_future()

    tasks = Tasks()
    tasks.spawn(wait_long(), "hang").add_done_callback(lambda task: finished.set())
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert not finished.is_set()
    await tasks.cancel()
    await asyncio.wait_for(finished.wait(), 5)


async def test_the_result_and_the_name_are_the_tasks() -> None:
    async def add() -> int:
        return 3

    task = Tasks().spawn(add(), "add")
    assert task.get_name() == "add"
    assert await task == 3


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing tells when it changes
            await asyncio.sleep(0.01)


async def test_a_supervised_task_that_fails_is_logged_once_and_starts_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "RESTART_DELAY_S", 0.05)
    monkeypatch.setattr(failures_module, "RECOVERY_S", 0.2)
    starts: list[int] = []

    async def fail_three_times() -> None:
        starts.append(len(starts))
        if len(starts) <= 3:
            raise ZeroDivisionError("by design")
        await asyncio.get_running_loop().create_future()

    caplog.set_level("INFO")
    tasks = Tasks()
    tasks.supervise(fail_three_times, "divide")
    await until(lambda: tasks.failures.problems)
    assert tasks.failures.problems == {"divide": "ZeroDivisionError('by design')"}
    await until(lambda: not tasks.failures.problems)
    assert len(starts) == 4
    await tasks.cancel()
    failed, recovered = caplog.records
    assert failed.getMessage() == "divide failed"
    assert failed.exc_info is not None
    assert failed.exc_info[0] is ZeroDivisionError
    assert recovered.getMessage() == "divide is well again"


async def test_a_supervised_task_that_ends_by_itself_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[int] = []

    async def work() -> None:
        starts.append(len(starts))

    tasks = Tasks()
    tasks.supervise(work, "once")
    await until(lambda: starts)
    await tasks.cancel()
    assert (starts, tasks.failures.problems, caplog.records) == ([0], {}, [])
