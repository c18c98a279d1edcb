from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.virtual_time import run
from voice_streaming.process.failures import Failures
from voice_streaming.process.timers import RETRY_S, Timer


class Watch:
    """A timer, and when it called."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun_s = self.loop.time()
        self.at_s: list[float] = []
        self.failures = Failures()
        self.timer = Timer("watch", self._call, self.failures)
        self.act = act

    def set(self, after_s: float) -> None:
        self.timer.set(self.loop.time() + after_s)

    def _call(self) -> None:
        self.at_s.append(round(self.loop.time() - self.begun_s, 3))
        self.act()


def test_it_calls_once_for_each_time_that_it_was_set() -> None:
    async def scene() -> list[float]:
        watch = Watch()
        watch.set(5)
        watch.set(1)
        await asyncio.sleep(20)
        watch.set(1)
        watch.timer.cancel()
        await asyncio.sleep(20)
        return watch.at_s

    assert run(scene()) == [1]


def test_a_call_that_fails_is_made_again_and_seen() -> None:
    async def scene() -> None:
        watch = Watch(lambda: 1 // 0)  # type: ignore[arg-type]
        watch.set(1)
        await asyncio.sleep(1 + 3.5 * RETRY_S)
        assert watch.at_s == [1, 1 + RETRY_S, 1 + 2 * RETRY_S, 1 + 3 * RETRY_S]
        assert (list(watch.failures.problems), watch.failures.total) == (["watch"], 4)
        watch.act = lambda: None
        await asyncio.sleep(60)
        assert len(watch.at_s) == 5
        assert watch.failures.problems == {}

    run(scene())


def test_a_call_that_fails_after_it_set_the_next_time_keeps_that() -> None:
    async def scene() -> None:
        def set_and_fail() -> None:
            watch.set(3)
            raise ZeroDivisionError

        watch = Watch(set_and_fail)
        watch.set(1)
        await asyncio.sleep(8)
        watch.timer.cancel()
        assert watch.at_s == [1, 4, 7]

    run(scene())


def test_a_call_that_fails_after_it_was_cancelled_is_not_made_again() -> None:
    async def scene() -> None:
        def cancel_and_fail() -> None:
            watch.timer.cancel()
            raise ZeroDivisionError

        watch = Watch(cancel_and_fail)
        watch.set(1)
        await asyncio.sleep(60)
        assert watch.at_s == [1]
        assert watch.failures.total == 1

    run(scene())
