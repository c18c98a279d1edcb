"""A timer wheel: one timer of the event loop calls many members at the same interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from ..process.failures import Failures
from ..process.timers import Timer

SLOTS = 25
"""Slots of an interval, over which the members are spread so that a thousand are not called in one burst."""


class Member(Protocol):
    def on_timer(self, now_s: float) -> None:
        """Called every interval with the event loop's time. It may add and discard members."""


class TimerWheel:
    """Calls each member every `interval_s`, for the first time within that. Without members nothing wakes up.

    A member whose call fails is called again when it is due next; the others do not notice.
    """

    def __init__(self, interval_s: float, failures: Failures) -> None:
        self._slot_s = interval_s / SLOTS
        self._slots: list[set[Member]] = [set() for _ in range(SLOTS)]
        self._once: list[dict[Member, Callable[[], None]]] = [{} for _ in range(SLOTS)]
        self._failures = failures
        self._timer = Timer("timer-wheel", self._call, failures)
        self._due_slot = 0
        """The one that the timer is set for."""
        self._newest_slot = 0
        """Number of the slot called last: the loop's time in slots. Its members are `_slots[number % SLOTS]`."""

    def __iter__(self) -> Iterator[Member]:
        return (member for slot in self._slots for member in slot)

    def add(self, member: Member) -> None:
        """To be called with a running loop."""
        min(self._slots, key=len).add(member)
        self._wait()

    def once(self, member: Member, delay_s: float, call: Callable[[], None]) -> None:
        """Makes a call in the slot after that time, less than an interval, together with what else is due there.

        A timer of its own for each of hundreds of calls would wake the event loop as often. Of a member, one call in
        each slot; none after `discard`.
        """
        self._once[(self._next_slot() + int(delay_s / self._slot_s)) % SLOTS][member] = call
        self._wait()

    def discard(self, member: Member) -> None:
        """Calls the member no more; safe when it is not there."""
        for slot in self._slots:
            slot.discard(member)
        for calls in self._once:
            calls.pop(member, None)

    def close(self) -> None:
        """Calls nobody any more."""
        self._timer.cancel()

    def _wait(self) -> None:
        """Sets the timer for the next slot that has members: others are not worth a wake-up."""
        self._timer.cancel()
        first = self._next_slot()
        slots = range(first, first + SLOTS)
        due = next((slot for slot in slots if self._slots[slot % SLOTS] or self._once[slot % SLOTS]), None)
        if due is not None:
            self._due_slot = due
            self._timer.set(due * self._slot_s)

    def _call(self) -> None:
        due = self._newest_slot = self._due_slot
        calls, self._once[due % SLOTS] = self._once[due % SLOTS], {}
        self._wait()
        now_s = asyncio.get_running_loop().time()
        for member, call in calls.items():
            with self._failures.guard(f"timer-{type(member).__name__}"):
                call()
        for member in list(self._slots[due % SLOTS]):
            with self._failures.guard(f"timer-{type(member).__name__}"):
                member.on_timer(now_s)

    def _next_slot(self) -> int:
        return max(self._newest_slot, int(asyncio.get_running_loop().time() / self._slot_s)) + 1
