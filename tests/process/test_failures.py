from __future__ import annotations

import asyncio

import pytest

from tests.support.virtual_time import run
from voice_streaming.process.failures import Failures


def test_a_failure_is_a_problem_until_it_has_not_come_for_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        failures = Failures()
        for _ in range(3):
            failures.note("divide", ZeroDivisionError("by design"))
            await asyncio.sleep(9.9)
            assert failures.problems == {"divide": "ZeroDivisionError('by design')"}
        await asyncio.sleep(0.2)
        assert (failures.problems, failures.total) == ({}, 3)
        failures.note("divide", ZeroDivisionError())
        assert failures.total == 4

    caplog.set_level("INFO")
    run(scene())
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("failures")]
    assert messages == ["divide failed", "divide is well again", "divide failed"]
    assert caplog.records[0].exc_info is not None


async def test_problems_are_a_copy_with_the_newest_cause() -> None:
    failures = Failures()
    failures.note("divide", ZeroDivisionError())
    failures.note("divide", OverflowError())
    failures.note("multiply", ValueError())
    assert failures.problems == {"divide": "OverflowError()", "multiply": "ValueError()"}
    failures.problems.clear()
    assert len(failures.problems) == 2


async def test_what_is_guarded_goes_no_further_and_a_cancellation_does() -> None:
    failures = Failures()
    with failures.guard("divide"):
        raise ZeroDivisionError
    assert list(failures.problems) == ["divide"]
    with pytest.raises(asyncio.CancelledError), failures.guard("divide"):
        raise asyncio.CancelledError
    assert failures.total == 1


async def test_what_is_held_is_a_problem_until_it_is_released() -> None:
    failures = Failures()
    failures.hold("https", "no folder")
    failures.note("divide", ZeroDivisionError())
    assert failures.problems == {"https": "no folder", "divide": "ZeroDivisionError()"}
    failures.release("https")
    failures.release("https")
    assert (list(failures.problems), failures.total) == (["divide"], 1)
