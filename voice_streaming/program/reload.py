"""SIGHUP: certificates, tokens and the log level are read again, and nothing is interrupted."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from ..access.access import Access
from ..network.tls import Certificates
from ..process.log import set_level
from ..settings.model import ConfigError, Settings

logger = logging.getLogger(__name__)

RELOADED_KEYS = {"server.log_level", "access.tokens", "access.token_secret"}
"""Beside certificates, whose files are read again; all other settings are read at the start."""


class ReloadRequests:
    """SIGHUPs. From the first moment on they do not end the process, and none is lost before somebody listens."""

    def __init__(self) -> None:
        self._is_pending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reload: Callable[[], None] | None = None

    @contextmanager
    def received(self) -> Iterator[None]:
        """Takes the signal while the block runs; to be used in the main thread."""
        before = signal.signal(signal.SIGHUP, lambda number, frame: self._note())
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    @contextmanager
    def listening(self, reload: Callable[[], None]) -> Iterator[None]:
        """Calls `reload` in the running loop for each SIGHUP while the block runs, and for one that came before."""
        self._loop, self._reload = asyncio.get_running_loop(), reload
        if self._is_pending:
            self._loop.call_soon(reload)
        try:
            yield
        finally:
            self._loop = self._reload = None

    def _note(self) -> None:
        if self._loop is not None and self._reload is not None:
            # A signal handler may run anywhere: this wakes the loop up, too.
            self._loop.call_soon_threadsafe(self._reload)
        else:
            self._is_pending = True


class Reload:
    """Brings what can change without a restart up to date. `read` reads all settings anew, or raises ConfigError."""

    def __init__(self, read: Callable[[], Settings], in_use: Settings, access: Access) -> None:
        self._read = read
        self._in_use = in_use
        self._access = access

    def run(self, certificates: Certificates | None) -> None:
        """Logs one line. When anything new cannot be used, that line says so, and nothing has changed."""
        try:
            settings = self._read()
            if certificates is not None:
                certificates.reload()
        except ConfigError as error:
            logger.error("Nothing is reloaded: %s", error)
            return
        self._access.use_tokens(settings.access)
        old, new = self._in_use.server.log_level, settings.server.log_level
        later = sorted(_changed_keys(self._in_use, settings) - RELOADED_KEYS)
        text = f"Reloaded: certificates, tokens ({len(settings.access.tokens)}), log level {new}"
        if later:
            text += f"; changed, but only from the next start on: {', '.join(later)}"
        levels = logging.getLevelNamesMapping()
        set_level(min(old, new, key=levels.__getitem__))
        # Who asked for it sees the answer, also in a log without INFO.
        logger.log(max(logging.INFO, min(levels[old], levels[new], logging.WARNING)), "%s", text)
        set_level(new)
        self._in_use = msgspec.structs.replace(
            self._in_use,
            server=msgspec.structs.replace(self._in_use.server, log_level=new),
            access=msgspec.structs.replace(
                self._in_use.access, tokens=settings.access.tokens, token_secret=settings.access.token_secret
            ),
        )


def _changed_keys(before: Settings, after: Settings) -> set[str]:
    """Dotted keys of settings that differ: of a section of named entries, the names."""
    old, new = _flat(before), _flat(after)
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def _flat(settings: Settings) -> dict[str, object]:
    """By dotted key."""
    flat: dict[str, object] = {}
    for section, values in msgspec.to_builtins(settings).items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            flat[section] = values
    return flat
