"""Who is brought back to live, and who is let go."""

from __future__ import annotations

import pytest

from voice_streaming.listening.backlog import Backlog, BacklogLimits, Verdict

LIMITS = BacklogLimits.of(bytes_per_s=16_000, chunk_s=0.2, burst_s=0.5, max_backlog_s=5)


class Player:
    """Chunks of ten frames, 0.2 s and 3200 bytes each; what is unsent is as the test says."""

    def __init__(self) -> None:
        self.backlog = Backlog(LIMITS)
        self.now_s = 100.0
        self.frame = 0

    def chunk(self, unsent_bytes: int) -> Verdict:
        verdict = self.backlog.judge(unsent_bytes, range(self.frame, self.frame + 10), self.now_s)
        if verdict is Verdict.WRITE:
            self.backlog.written(3200)
        self.pass_unjudged()
        return verdict

    def pass_unjudged(self) -> None:
        """A chunk while nothing is unsent."""
        self.now_s += 0.2
        self.frame += 10


def test_two_seconds_are_kept_for_it_and_then_it_gets_nothing_until_a_chunk_is_left() -> None:
    player = Player()
    assert player.chunk(31_999) is Verdict.WRITE
    assert player.chunk(32_001) is Verdict.DROP
    assert player.chunk(20_000) is Verdict.DROP
    assert player.chunk(3201) is Verdict.DROP
    assert player.chunk(3200) is Verdict.WRITE
    assert player.chunk(20_000) is Verdict.WRITE


def test_a_long_burst_may_be_unsent_and_a_second_more() -> None:
    limits = BacklogLimits.of(bytes_per_s=16_000, chunk_s=0.2, burst_s=10, max_backlog_s=5)
    assert limits.most_unsent_bytes == 11 * 16_000


def test_one_that_takes_nothing_at_all_is_let_go_after_the_time_that_is_set() -> None:
    player = Player()
    verdicts = [player.chunk(min(35_200, 3200 * chunk)) for chunk in range(1, 30)]
    assert 0.2 * verdicts.index(Verdict.DISCONNECT) == pytest.approx(5, abs=0.21)


def test_the_time_that_is_set_is_still_allowed() -> None:
    for waited_s, verdict in ((5.0, Verdict.WRITE), (5.001, Verdict.DISCONNECT)):
        backlog = Backlog(LIMITS)
        assert backlog.judge(3200, range(10), 100.0) is Verdict.WRITE
        assert backlog.judge(3200, range(10, 20), 100.0 + waited_s) is verdict


def test_one_that_takes_little_stays() -> None:
    player = Player()
    unsent_bytes = 60_000
    for _ in range(100):
        assert player.chunk(unsent_bytes) is Verdict.DROP
        unsent_bytes -= 100


def test_one_that_takes_less_than_it_gets_makes_progress() -> None:
    player = Player()
    assert {player.chunk(1000 + 100 * chunk) for chunk in range(100)} == {Verdict.WRITE}


def test_a_hold_up_long_ago_does_not_count() -> None:
    player = Player()
    assert player.chunk(5000) is Verdict.WRITE
    for _ in range(50):
        player.pass_unjudged()
    assert player.chunk(8200) is Verdict.WRITE
    assert player.chunk(11_400) is Verdict.WRITE


def test_the_kernel_holds_half_a_second_but_not_less_than_it_can() -> None:
    for bytes_per_s, expected in ((16_000, 8000), (40_000, 20_000), (4000, 4608)):
        limits = BacklogLimits.of(bytes_per_s=bytes_per_s, chunk_s=0.2, burst_s=0.5, max_backlog_s=5)
        assert limits.kernel_buffer_bytes == expected
