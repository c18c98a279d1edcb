"""What may be asked of the list, and its pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.process.refusal import Refused
from voice_streaming.recording.model import Recording, State
from voice_streaming.web.recordings_query import MOST_LISTED, page_of, query_of


def recording(number: int, stream: str = "kitchen") -> Recording:
    at = f"2026-11-25T14:{number // 60:02}:{number % 60:02}Z"
    return Recording(f"{number:016x}", stream, stream.title(), at, 1.0, 100, State.FINISHED)


ALL = [recording(number, ["kitchen", "Küche", "attic"][number % 3]) for number in range(300)]


def test_the_newest_are_first_and_the_cursor_leads_through_all() -> None:
    found: list[Recording] = []
    cursor: str | None = None
    while True:
        page, cursor = page_of(ALL, query_of({"limit": "70"} | ({"cursor": cursor} if cursor else {})))
        found += page
        if cursor is None:
            break
    assert found == ALL[::-1]


@pytest.mark.parametrize(("text", "count"), [("kit", 100), ("KÜCHE", 100), ("ku", 0), ("t", 200), ("", 300)])
def test_names_are_found_by_a_part_whatever_their_case(text: str, count: int) -> None:
    page, _ = page_of(ALL, query_of({"stream": text, "limit": "200"}))
    assert len(page) == min(count, MOST_LISTED)


def test_times_are_a_half_open_range() -> None:
    asked = {"since": "2026-11-25T14:01:00Z", "until": "2026-11-25T15:01:10+01:00"}
    page, cursor = page_of(ALL, query_of(asked))
    assert [found.started_at[-4:-1] for found in page] == [f":0{second}" for second in range(9, -1, -1)]
    assert cursor is None


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "x"},
        {"limit": "٣"},
        {"limit": "9" * 5000},
        {"since": "yesterday"},
        {"until": "0000-00-00"},
        {"cursor": "x"},
        {"cursor": "." * 200},
        {"strem": "kitchen"},
    ],
)
def test_what_is_wrong_is_named(asked: dict[str, str]) -> None:
    with pytest.raises(Refused, match=f"{next(iter(asked))}"):
        query_of(asked)


@given(st.dictionaries(st.sampled_from(["stream", "since", "until", "limit", "cursor"]), st.text(max_size=40)))
def test_any_query_is_answered_or_refused(asked: dict[str, str]) -> None:
    try:
        query = query_of(asked)
    except Refused:
        return
    page, _ = page_of(ALL, query)
    assert len(page) <= query.limit
