"""Names of files, whatever the stream is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.recording.model import (
    ENDING,
    MOST_FILE_NAME_BYTES,
    UNFINISHED_ENDING,
    file_name,
    iso_time,
    recording_id,
)

AT = datetime(2026, 11, 25, 14, 3, 22, 900_000, tzinfo=UTC)


def test_a_file_is_named_by_its_begin_and_its_stream() -> None:
    assert file_name("kitchen", AT) == "2026-11-25T14-03-22Z kitchen.opus"
    assert file_name("kitchen", AT.astimezone(timezone(timedelta(hours=9)))) == file_name("kitchen", AT)
    assert file_name("kitchen", AT, 2) == "2026-11-25T14-03-22Z kitchen 2.opus"


@pytest.mark.parametrize(
    ("name", "safe"), [("a/b\\c:d", "a_b_c_d"), ("..", ".."), ('x*?"<>|\x00', "x_______"), ("", "voice")]
)
def test_what_file_systems_do_not_take_is_replaced(name: str, safe: str) -> None:
    assert file_name(name, AT) == f"2026-11-25T14-03-22Z {safe}.opus"


@given(st.text(max_size=300), st.integers(1, 1000))
def test_every_name_is_short_enough_and_one_part_of_a_path(name: str, attempt: int) -> None:
    found = file_name(name, AT, attempt)
    assert "/" not in found
    assert "\0" not in found
    assert found.endswith(ENDING)
    assert len((found.removesuffix(ENDING) + UNFINISHED_ENDING).encode()) <= MOST_FILE_NAME_BYTES


def test_ids_are_those_of_names() -> None:
    first, second = file_name("kitchen", AT), file_name("kitchen", AT, 2)
    assert recording_id(first) == recording_id(first) != recording_id(second)
    assert len(recording_id(first)) == 16


def test_times_are_utc_in_whole_seconds() -> None:
    assert iso_time(AT) == "2026-11-25T14:03:22Z"
