"""A place in a listener's audio, and the frame of the clock that it has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.listening.sent_frames import MOST_GAPS, SentFrames


def test_without_gaps() -> None:
    sent = SentFrames(1000)
    assert sent.frame_at(0) == 1000
    assert sent.frame_at(7.5) == 1007.5


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=MOST_GAPS))
def test_every_frame_that_was_sent_has_its_own_time(runs: list[tuple[bool, int]]) -> None:
    sent = SentFrames(50)
    frame = 50
    got: list[int] = []
    for is_sent, count in runs:
        if is_sent:
            got += range(frame, frame + count)
        else:
            sent.skip(frame, count)
        frame += count
    assert [sent.frame_at(position) for position in range(len(got))] == got
    assert sent.frame_at(len(got)) == frame, "what comes next"


def test_the_latest_gaps_are_kept() -> None:
    sent = SentFrames(0)
    frame = 0
    for _ in range(10 * MOST_GAPS):
        frame += 10
        sent.skip(frame, 5)
        frame += 5
    played = 10 * 10 * MOST_GAPS
    assert sent.frame_at(played) == frame
    assert sent.frame_at(played - 10) == frame - 15
