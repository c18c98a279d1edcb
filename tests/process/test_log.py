"""The log: one line is one line, and no token is in it."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.process.log import JsonFormatter, SafeFormatter

formatter = SafeFormatter("%(levelname)s %(message)s")


def formatted(message: str, *arguments: object, error: BaseException | None = None) -> str:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return formatter.format(logging.LogRecord("x", logging.INFO, "f", 1, message, arguments, exc_info))


@given(st.text())
def test_whatever_a_client_sends_stays_on_one_line_of_printable_text(text: str) -> None:
    line = formatted("Connection %s", text)
    assert line.isprintable()
    assert line.startswith("INFO Connection ")


def test_a_forged_line_is_shown_as_what_it_is() -> None:
    assert formatted("%s", "a\n12:00 ERROR b\x1b[31m\u2028") == r"INFO a\n12:00 ERROR b\x1b[31m\u2028"
    assert formatted("Küche “%s”", "🎤") == "INFO Küche “🎤”"


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws?token=SECRET HTTP/1.1",
        "GET /stream/latest.mp3?follow=1&token=SECRET&x=1",
        "http://box/?TOKEN=SECRET'",
        "{'Authorization': 'Bearer SECRET'}",
        "authorization: bearer   SECRET",
        "next=%2Fws%3Ftoken%3DSECRET",
    ],
)
def test_tokens_are_hidden_in_messages_and_in_tracebacks(text: str) -> None:
    assert "SECRET" not in formatted(text)
    assert "(hidden)" in formatted(text)
    assert "SECRET" not in formatted("failed", error=raised(text))


def raised(text: str) -> ValueError:
    """An error with a traceback."""
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_traceback_keeps_its_lines() -> None:
    lines = formatted("failed", error=raised("why")).splitlines()
    assert lines[:2] == ["INFO failed", "Traceback (most recent call last):"]
    assert lines[-1] == "ValueError: why"


def json_line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, str]:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("voice.module", logging.WARNING, "f", 1, message, arguments, exc_info)
    record.created = 1_000_000_000.5
    line = JsonFormatter().format(record)
    assert line.isprintable()
    found: dict[str, str] = json.loads(line)
    return found


def test_a_line_of_json_has_the_same_facts() -> None:
    assert json_line("Stream %s\n", "Küche") == {
        "time": "2001-09-09T01:46:40.500+00:00",
        "level": "WARNING",
        "logger": "voice.module",
        "message": "Stream Küche\n",
    }
    failed = json_line("failed", error=raised("GET /ws?token=SECRET"))
    assert failed["message"] == "failed"
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert failed["exception"].endswith("ValueError: GET /ws?token=(hidden)")
    assert json_line("Bearer SECRET")["message"] == "Bearer (hidden)"


@given(st.text())
def test_whatever_a_client_sends_is_one_line_of_json(text: str) -> None:
    assert "SECRET" not in json_line("%s token=SECRET", text)["message"]
