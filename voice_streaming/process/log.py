"""Logging to standard error, as text or JSON: in every record control characters are escaped and tokens hidden."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

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
        return _without_tokens(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `exception` where there is one,
    a traceback. Tokens are hidden in it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _without_tokens(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = _without_tokens(self.formatException(record.exc_info))
        return json.dumps(line)


def _without_tokens(text: str) -> str:
    return _TOKEN.sub(r"\1(hidden)", text)


def _is_server_fault(record: logging.LogRecord) -> bool:
    """A filter: False for malformed requests and for connections that clients broke off, which go to DEBUG instead.

    aiohttp logs both as errors, with a traceback.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | ConnectionError):
        logger.debug("%s: %s", record.getMessage(), error)
        return False
    return True


def start_log(level: str, log_format: Literal["text", "json"] = "text") -> None:
    """Logs to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else SafeFormatter(_FORMAT))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("aiohttp.server").addFilter(_is_server_fault)
    set_level(level)


def set_level(level: str) -> None:
    """From which level on records are logged."""
    logging.getLogger().setLevel(level)
    # These two log every connectivity check at INFO.
    for name in ("aioice", "aiortc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
