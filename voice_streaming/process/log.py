"""Logging to standard error: in every record control characters are escaped and tokens hidden."""

from __future__ import annotations

import logging
import re
import sys

from aiohttp.http import HttpProcessingError

logger = logging.getLogger(__name__)

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
_TOKEN = re.compile(r"(?i)(token=|token%3d|bearer\s+)[^\s&\"'<>,;)]+")
"""A token in an address or in a header, as libraries quote them in what they log."""


class SafeFormatter(logging.Formatter):
    """Escapes unprintable characters in messages, so that each is one line, and hides tokens, in tracebacks too."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _TOKEN.sub(r"\1(hidden)", super().format(record))


def _is_server_fault(record: logging.LogRecord) -> bool:
    """A filter: False for malformed requests and for connections that clients broke off, which go to DEBUG instead.

    aiohttp logs both as errors, with a traceback.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | ConnectionError):
        logger.debug("%s: %s", record.getMessage(), error)
        return False
    return True


def start_log(level: str) -> None:
    """Logs to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("aiohttp.server").addFilter(_is_server_fault)
    # These two log every connectivity check at INFO.
    for name in ("aioice", "aiortc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
