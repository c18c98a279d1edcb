from __future__ import annotations

import asyncio

import pytest

from voice_streaming.process.failures import Failures
from voice_streaming.process.turns import Turns


async def test_one_call_per_turn_of_the_loop_in_order() -> None:
    turns, log = Turns(), []
    for number in range(3):
        turns.add(lambda number=number: log.append(str(number)))  # type: ignore[misc]
    assert log == []
    for _ in range(3):
        await asyncio.sleep(0)
        log.append("loop")
    assert log == ["0", "loop", "1", "loop", "2", "loop"]


async def test_a_call_that_fails_does_not_stop_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    turns, log = Turns("sums", failures), []

    def fail() -> None:
        raise RuntimeError("on purpose")

    turns.add(fail)
    turns.add(lambda: log.append("after"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == ["after"]
    assert "on purpose" in caplog.text
    assert failures.problems == {"sums": "RuntimeError('on purpose')"}
