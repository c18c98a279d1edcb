"""The wheel that calls every member at one interval, in virtual time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random

import pytest

from tests.support.virtual_time import run
from voice_streaming.process.failures import Failures
from voice_streaming.rtc.timer_wheel import SLOTS, TimerWheel

INTERVAL_S = 2.5


class Called:
    def __init__(self) -> None:
        self.joined_s = asyncio.get_running_loop().time()
        self.at_s: list[float] = []

    def on_timer(self, now_s: float) -> None:
        self.at_s.append(now_s)


async def some_leave_and_others_come(chance: random.Random) -> list[Called]:
    """All that ever came; those that left have been called for no longer than they were there."""
    wheel = TimerWheel(INTERVAL_S, Failures())
    present: list[Called] = []
    everybody: list[Called] = []
    for _ in range(60):
        await asyncio.sleep(chance.choice([0, 0.01, 0.3, 2.0, 6.0]))
        if present and chance.random() < 0.4:
            gone = present.pop(chance.randrange(len(present)))
            wheel.discard(gone)
            gone.at_s.append(asyncio.get_running_loop().time())
        else:
            present.append(Called())
            everybody.append(present[-1])
            wheel.add(present[-1])
    await asyncio.sleep(4 * INTERVAL_S)
    for one in present:
        assert len(one.at_s) >= 4
    wheel.close()
    return everybody


@pytest.mark.parametrize("seed", range(20))
def test_whoever_joins_is_called_within_an_interval_and_then_once_in_each(seed: int) -> None:
    for one in run(some_leave_and_others_come(random.Random(seed))):
        assert one.at_s[0] - one.joined_s <= INTERVAL_S + 0.001
        steps = [after - before for before, after in itertools.pairwise(one.at_s)]
        assert steps[:-1] == pytest.approx([INTERVAL_S] * len(steps[:-1]), abs=0.001)


def test_nobody_there_is_no_wake_up() -> None:
    async def scene() -> None:
        wheel, loop = TimerWheel(INTERVAL_S, Failures()), asyncio.get_running_loop()
        one = Called()
        wheel.add(one)
        await asyncio.sleep(1)
        wheel.discard(one)
        await asyncio.sleep(2 * INTERVAL_S)
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    run(scene())


class Failing(Called):
    def on_timer(self, now_s: float) -> None:
        super().on_timer(now_s)
        raise ZeroDivisionError("by design")


def test_a_member_that_fails_is_called_again_and_seen_and_the_others_do_not_notice() -> None:
    async def scene() -> None:
        failures = Failures()
        wheel = TimerWheel(INTERVAL_S, failures)
        failing, other = Failing(), Called()
        wheel.add(failing)
        wheel.add(other)
        await asyncio.sleep(4.5 * INTERVAL_S)
        assert len(failing.at_s) >= 4
        assert len(other.at_s) >= 4
        assert failures.problems == {"timer-Failing": "ZeroDivisionError('by design')"}
        assert failures.total == len(failing.at_s)
        wheel.close()

    run(scene())


def test_calls_made_once_are_made_together_in_the_slot_after_their_time() -> None:
    async def scene() -> None:
        wheel, loop = TimerWheel(INTERVAL_S, Failures()), asyncio.get_running_loop()
        slot_s = INTERVAL_S / SLOTS
        begun_s = loop.time()
        members = [Called() for _ in range(40)]
        called: list[tuple[float, float]] = []

        def note(wanted_s: float) -> None:
            called.append((wanted_s, loop.time() - begun_s))

        for number, member in enumerate(members):
            delay_s = number * 0.9 * INTERVAL_S / 40
            wheel.once(member, delay_s, functools.partial(note, delay_s))
        gone = members.pop()
        wheel.discard(gone)
        await asyncio.sleep(2 * INTERVAL_S)
        assert [wanted for wanted, _ in called] == sorted(wanted for wanted, _ in called)
        assert len(called) == 39
        assert all(wanted <= at + 0.001 and at <= wanted + 2 * slot_s for wanted, at in called)
        assert len({round(at, 3) for _, at in called}) <= SLOTS
        assert all(not member.at_s for member in members)
        wheel.close()

    run(scene())


def test_a_call_made_once_that_fails_does_not_keep_the_others_from_being_made() -> None:
    async def scene() -> None:
        failures = Failures()
        wheel, called = TimerWheel(INTERVAL_S, failures), []

        def fail() -> None:
            raise RuntimeError("on purpose")

        first, second = Called(), Called()
        wheel.once(first, 0, fail)
        wheel.once(second, 0, lambda: called.append(True))
        await asyncio.sleep(INTERVAL_S)
        assert called == [True]
        assert failures.total == 1
        wheel.close()

    run(scene())
