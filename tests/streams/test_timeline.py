from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.streams.timeline import MAX_DROPOUT, MAX_MISORDER, Timeline, unwrap

uint16 = st.integers(0, (1 << 16) - 1)


uint32 = st.integers(0, (1 << 32) - 1)


@given(st.integers(0, (1 << 40)), st.integers(-(1 << 15), (1 << 15) - 1))
def test_unwrap_finds_the_closest_number(near: int, distance: int) -> None:
    assert unwrap((near + distance) & 0xFFFF, near, 16) == near + distance


class Sender:
    """The model: a sender whose true, unwrapped numbers are known."""

    def __init__(self, ssrc: int, sequence: int = 1000, timestamp: int = 5000) -> None:
        self.ssrc, self.sequence, self.timestamp = ssrc, sequence, timestamp

    def place(self, timeline: Timeline, index: int, arrived_s: float | None = None) -> tuple[int, int] | None:
        """Places the packet that is `index` packets behind the sender's first; they have 20 ms each."""
        return timeline.place(
            self.ssrc,
            self.sequence + index & 0xFFFF,
            self.timestamp + index * 960 & 0xFFFF_FFFF,
            index * 0.02 if arrived_s is None else arrived_s,
        )

    def must_place(self, timeline: Timeline, index: int, arrived_s: float | None = None) -> tuple[int, int]:
        placed = self.place(timeline, index, arrived_s)
        assert placed is not None
        return placed


@given(uint16, uint32, st.lists(st.integers(1 - MAX_MISORDER, MAX_DROPOUT - 1), max_size=200))
def test_an_epoch_keeps_order_holes_and_pauses_across_wraps(
    first_sequence: int, first_timestamp: int, steps: list[int]
) -> None:
    """Wherever the numbers of 16 and 32 bits start and wrap, and however late a packet comes; none is placed twice."""
    timeline, sender = Timeline(), Sender(7, first_sequence, first_timestamp)
    start = sender.must_place(timeline, 0)
    newest, used = 0, {0}
    for step in steps:
        index = newest + step
        placed = sender.place(timeline, index)
        if index < 0 or index in used:
            assert placed is None
        else:
            assert placed == (start[0] + index, start[1] + index * 960)
        used.add(index)
        newest = max(newest, index)


def test_an_epoch_survives_ten_wraps() -> None:
    timeline, sender = Timeline(), Sender(7, 65_000, (1 << 32) - 5_000)
    start = sender.must_place(timeline, 0)
    for index in range(0, 10 << 16, 1_000):
        placed = sender.place(timeline, index)
        if index:
            assert placed == (start[0] + index, start[1] + index * 960)


def test_a_packet_from_before_an_epochs_first_is_dropped_and_counted() -> None:
    timeline, old, new = Timeline(), Sender(1), Sender(2)
    assert old.place(timeline, -1) is not None
    first = old.must_place(timeline, 0)
    joined = new.must_place(timeline, 50)
    assert joined[0] == first[0] + 1
    # Each would get a number that the old sender's packets have.
    assert new.place(timeline, 49) is None
    assert new.place(timeline, 48) is None
    assert new.must_place(timeline, 51)[0] == joined[0] + 1
    assert new.place(timeline, 49) is None
    assert timeline.dropped_packets == 3


def test_a_packet_is_placed_once() -> None:
    timeline, sender = Timeline(), Sender(1)
    start = sender.must_place(timeline, 0)
    assert sender.place(timeline, 0) is None
    assert sender.must_place(timeline, 2)[0] == start[0] + 2
    assert sender.must_place(timeline, 1)[0] == start[0] + 1
    assert sender.place(timeline, 1) is None
    assert sender.place(timeline, 2) is None
    assert timeline.dropped_packets == 3


@pytest.mark.parametrize("distance", [MAX_MISORDER - 1, MAX_MISORDER])
def test_what_is_later_than_any_reordering_is_dropped(distance: int) -> None:
    timeline, sender = Timeline(), Sender(1)
    sender.must_place(timeline, 0)
    newest = sender.must_place(timeline, 500)
    placed = sender.place(timeline, 500 - distance)
    assert placed == (None if distance == MAX_MISORDER else (newest[0] - distance, newest[1] - distance * 960))
    assert sender.must_place(timeline, 501)[0] == newest[0] + 1


@given(uint16, uint32, uint16, uint32, st.floats(0.0, 3600.0))
def test_a_new_sender_goes_on_where_the_old_one_ended(
    sequence: int, timestamp: int, next_sequence: int, next_timestamp: int, pause_s: float
) -> None:
    timeline = Timeline()
    old, new = Sender(1, sequence, timestamp), Sender(2, next_sequence, next_timestamp)
    old.place(timeline, 0, 10.0)
    last = old.must_place(timeline, 5, 10.1)
    old.place(timeline, 3, 10.1)
    assert (timeline.sequence, timeline.timestamp) == last, "a late packet is not the newest"
    joined = new.must_place(timeline, 0, 10.1 + pause_s)
    assert joined[0] == last[0] + 1
    assert joined[1] - last[1] == pytest.approx(max(960, pause_s * 48_000), abs=1)
    assert new.place(timeline, 2, 10.2 + pause_s) == (joined[0] + 2, joined[1] + 1_920)


@pytest.mark.parametrize("behind", [1, 700, 30_000, 40_000])
def test_a_sender_that_comes_back_with_its_ssrc_and_counts_anew_goes_on_at_once(behind: int) -> None:
    """Its numbers would look up to 32,768 packets late, and nobody would hear it for minutes."""
    timeline, sender = Timeline(), Sender(7)
    sender.must_place(timeline, 0, 10.0)
    last = sender.must_place(timeline, 1, 10.02)
    timeline.begin_epoch()
    first = sender.must_place(timeline, 1 - behind, 15.02)
    assert first == (last[0] + 1, last[1] + 5 * 48_000)
    assert sender.place(timeline, 2 - behind, 15.04) == (first[0] + 1, first[1] + 960)


@pytest.mark.parametrize("jump", [-2 * MAX_MISORDER, -20_000, MAX_DROPOUT, 20_000])
def test_a_jump_that_persists_is_an_epoch_and_costs_one_packet(jump: int) -> None:
    timeline, sender = Timeline(), Sender(7)
    sender.must_place(timeline, 0, 10.0)
    last = sender.must_place(timeline, 500, 20.0)
    assert sender.place(timeline, 500 + jump, 20.02) is None
    first = sender.must_place(timeline, 501 + jump, 20.04)
    assert first == (last[0] + 1, last[1] + 1_920)
    assert sender.place(timeline, 502 + jump, 20.06) == (first[0] + 1, first[1] + 960)
    assert timeline.dropped_packets == 1


def test_a_jump_that_does_not_persist_is_dropped() -> None:
    timeline, sender = Timeline(), Sender(7)
    start = sender.must_place(timeline, 0)
    for index, jumped in ((1, 9_000), (2, 9_001), (3, 20_000), (4, -400)):
        assert sender.place(timeline, jumped) is None
        assert sender.must_place(timeline, index)[0] == start[0] + index
    assert timeline.dropped_packets == 4


def test_the_former_ssrcs_late_packets_do_not_bring_it_back() -> None:
    timeline, old, new = Timeline(), Sender(1), Sender(2)
    old.must_place(timeline, 10)
    start = new.must_place(timeline, 0)
    assert old.place(timeline, 9) is None
    assert new.must_place(timeline, 1)[0] == start[0] + 1
    assert old.place(timeline, 11) is None
    assert old.must_place(timeline, 12)[0] == start[0] + 2, "two in a row do"


operations = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.just("next"),
            st.integers(1, 40).map(lambda count: ("skip", count)),
            st.integers(0, 140).map(lambda count: ("earlier", count)),
            st.integers(-40_000, 40_000).map(lambda count: ("jump", count)),
            st.just("take"),
        ),
    ),
    max_size=120,
)


@given(st.tuples(uint16, uint16, uint16), operations)
def test_no_number_is_ever_used_twice_whatever_senders_do(firsts: tuple[int, int, int], steps: list[Any]) -> None:
    """Senders that alternate, reorder, repeat, wrap, jump, and take over from each other."""
    timeline, dice = Timeline(), random.Random(firsts[0])
    senders = [Sender(ssrc, first, dice.randrange(1 << 32)) for ssrc, first in enumerate(firsts)]
    indices = [0, 0, 0]
    timestamps: dict[int, int] = {}
    for at, (who, step) in enumerate(steps):
        index = indices[who]
        match step:
            case "take":
                timeline.begin_epoch()
            case ("skip", count):
                index += count
            case ("jump", count):
                senders[who].sequence += count
                senders[who].timestamp += dice.randrange(1 << 32)
            case ("earlier", count):
                index = max(0, index - count)
            case _:
                index += 1
        indices[who] = max(indices[who], index)
        placed = senders[who].place(timeline, index, at * 0.005)
        if placed is not None:
            assert placed[0] not in timestamps, "the same SRTP index for two packets"
            timestamps[placed[0]] = placed[1]
    if not any(step[0] == "jump" for _, step in steps):
        in_order = [timestamps[sequence] for sequence in sorted(timestamps)]
        assert in_order == sorted(set(in_order))
    assert timeline.dropped_packets == len(steps) - len(timestamps)


def test_two_timelines_do_not_start_alike() -> None:
    assert len({(line.sequence, line.timestamp) for line in (Timeline() for _ in range(20))}) > 15
