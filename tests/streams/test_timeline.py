from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.streams.timeline import Timeline, unwrap

uint16 = st.integers(0, (1 << 16) - 1)


uint32 = st.integers(0, (1 << 32) - 1)


@given(st.integers(0, (1 << 40)), st.integers(-(1 << 15), (1 << 15) - 1))
def test_unwrap_finds_the_closest_number(near: int, distance: int) -> None:
    assert unwrap((near + distance) & 0xFFFF, near, 16) == near + distance


class Source:
    """The model: a source whose true, unwrapped numbers are known."""

    def __init__(self, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc, self.sequence, self.timestamp = ssrc, sequence, timestamp

    def place(self, timeline: Timeline, index: int, ticks: int, arrived_s: float = 0.0) -> tuple[int, int]:
        """Places the packet that is `index` packets and `ticks` ticks behind the source's first."""
        sequence, timestamp = self.sequence + index, self.timestamp + ticks
        return timeline.place(self.ssrc, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, arrived_s)


@given(uint16, uint32, st.lists(st.integers(-400, 400), max_size=200))
def test_a_timeline_keeps_order_holes_and_pauses_across_wraps(
    first_sequence: int, first_timestamp: int, steps: list[int]
) -> None:
    """Wherever the numbers of 16 and 32 bits start and wrap, and however late a packet comes."""
    timeline, source = Timeline(), Source(7, first_sequence, first_timestamp)
    start = source.place(timeline, 0, 0)
    index = 0
    for step in steps:
        index += step * 50
        ticks = index * 960
        # Within what 16 bits can tell: nothing is further than half of them from the newest.
        newest = timeline.sequence - start[0]
        if abs(index - newest) < 0x8000:
            placed = source.place(timeline, index, ticks)
            assert (placed[0] - start[0], placed[1] - start[1]) == (index, ticks)


def test_a_timeline_survives_ten_wraps() -> None:
    timeline, source = Timeline(), Source(7, 65_000, (1 << 32) - 5_000)
    start = source.place(timeline, 0, 0)
    for index in range(0, 10 << 16, 1_000):
        sequence, timestamp = source.place(timeline, index, index * 96_000)
        assert (sequence - start[0], timestamp - start[1]) == (index, index * 96_000)


def test_a_packet_from_before_the_first_has_smaller_numbers_and_no_negative_ones() -> None:
    for _ in range(50):
        timeline, source = Timeline(), Source(7, 3, 100)
        start = source.place(timeline, 0, 0)
        late = source.place(timeline, -500, -500 * 960)
        assert (start[0] - late[0], start[1] - late[1]) == (500, 480_000)
        assert late[0] > 0


@given(uint16, uint32, uint16, uint32, st.floats(0.0, 3600.0))
def test_a_new_source_goes_on_where_the_old_one_ended(
    sequence: int, timestamp: int, next_sequence: int, next_timestamp: int, pause_s: float
) -> None:
    timeline = Timeline()
    old, new = Source(1, sequence, timestamp), Source(2, next_sequence, next_timestamp)
    old.place(timeline, 0, 0, 10.0)
    last = old.place(timeline, 5, 4_800, 10.1)
    old.place(timeline, 3, 2_880, 10.1)
    assert (timeline.sequence, timeline.timestamp) == last, "a late packet is not the newest"
    joined = new.place(timeline, 0, 0, 10.1 + pause_s)
    assert joined[0] == last[0] + 1
    assert joined[1] - last[1] == pytest.approx(max(960, pause_s * 48_000), abs=1)
    after = new.place(timeline, 2, 1_920, 10.2 + pause_s)
    assert (after[0] - joined[0], after[1] - joined[1]) == (2, 1_920)


def test_two_timelines_do_not_start_alike() -> None:
    assert len({(line.sequence, line.timestamp) for line in (Timeline() for _ in range(20))}) > 15
