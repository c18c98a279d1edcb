"""JSON objects in files that people write: mistakes are told with line and column."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..settings.model import ConfigError

KeyPath = tuple[str, ...]
"""The keys from the outermost object on; those in an array are numbers from 0, as text."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
"""Of text that is known to be JSON (RFC 8259 section 2)."""
_BYTE_OF_ERROR = re.compile(r" \(byte (\d+)\)$")
"""How msgspec ends its messages; without it, the text ended too early."""


class JsonObject:
    """`values`, and where each of them stands."""

    def __init__(self, values: dict[str, Any], positions: dict[KeyPath, str]) -> None:
        self.values = values
        self._positions = positions

    def position(self, path: KeyPath) -> str:
        """Such as `line 3, column 5`: of the value's key, or of the innermost one on the way to it that exists."""
        while path not in self._positions and path:
            path = path[:-1]
        return self._positions.get(path, "line 1, column 1")


def read_json_object(path: Path) -> JsonObject:
    """Reads UTF-8, with or without a byte-order mark. Raises ConfigError, for a key that stands twice too."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode()
        values = msgspec.json.decode(content)
    except UnicodeDecodeError as error:
        where = _position(content[: error.start].decode(), error.start)
        raise ConfigError(f"{path}: is not JSON: it is not UTF-8 ({where})") from error
    except msgspec.DecodeError as error:
        reason = str(error)
        at = int(found[1]) if (found := _BYTE_OF_ERROR.search(reason)) else len(content)
        where = _position(text, len(content[:at].decode(errors="ignore")))
        raise ConfigError(f"{path}: is not JSON: {_BYTE_OF_ERROR.sub('', reason)} ({where})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is not JSON that can be read: it is nested too deeply") from error
    if not isinstance(values, dict):
        shown = msgspec.json.encode(values).decode()
        raise ConfigError(f"{path}: must be a JSON object, such as {{}}, and is {shown[:80]}")
    positions: dict[KeyPath, str] = {}
    for key_path, offset in _keys(text):
        where = _position(text, offset)
        if key_path in positions:
            raise ConfigError(f"{path}: {'.'.join(key_path)} is given twice: {positions[key_path]} and {where}")
        positions[key_path] = where
    return JsonObject(values, positions)


def _keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Every key of every object, and every element of every array, with its offset in the text."""
    return _values_below((), iter(_TOKEN.finditer(text)))


def _values_below(path: KeyPath, tokens: Iterator[re.Match[str]]) -> Iterator[tuple[KeyPath, int]]:
    """Takes the tokens of one value."""
    opening = next(tokens)[0]
    if opening == "{":
        while (token := next(tokens))[0] != "}":
            if token[0] != ",":
                here = (*path, msgspec.json.decode(token[0]))
                yield here, token.start()
                next(tokens)  # The colon.
                yield from _values_below(here, tokens)
    elif opening == "[":
        yield from _elements(path, tokens)


def _elements(path: KeyPath, tokens: Iterator[re.Match[str]]) -> Iterator[tuple[KeyPath, int]]:
    """Takes the tokens of an array, behind its opening bracket."""
    index = 0
    while (token := next(tokens))[0] != "]":
        if token[0] == ",":
            index += 1
            continue
        here = (*path, str(index))
        yield here, token.start()
        yield from _values_below(here, itertools.chain([token], tokens))


def _position(text: str, offset: int) -> str:
    """Both counted from 1, columns in characters."""
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - before.rfind(chr(10))}"
