"""A timer that a failure does not stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .failures import Failures

RETRY_S = 1.0
"""How long a call that failed waits for the next one, if it had not said itself when that is due."""


class Timer:
    """Makes one call at a time that is set each time anew, mostly by the call itself.

    When the call fails, the failure is noted under the timer's name, and the call is made again RETRY_S later unless it
    had set or cancelled the next one itself.
    """

    def __init__(self, name: str, call: Callable[[], None], failures: Failures) -> None:
        self._name = name
        self._call = call
        self._failures = failures
        self._handle: asyncio.TimerHandle | None = None
        self._is_decided = False
        """Whether the call that is being made has set or cancelled the next one."""

    def set(self, at_s: float) -> None:
        """Calls at `at_s` of the running loop's clock, instead of when it was set to before."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_at(at_s, self._due)

    def cancel(self) -> None:
        """Does not call until it is set again."""
        self._is_decided = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self) -> None:
        self._handle, self._is_decided = None, False
        try:
            self._call()
        except Exception as error:  # noqa: BLE001 - note logs it
            self._failures.note(self._name, error)
            if not self._is_decided:
                self.set(asyncio.get_running_loop().time() + RETRY_S)
