from __future__ import annotations

from voice_streaming.exchange.backoff import FIRST_S, LONGEST_S, Backoff


def test_delays_double_to_a_bound_and_differ() -> None:
    delays_s = [[one.next_s() for _ in range(9)] for one in (Backoff() for _ in range(20))]
    for number in range(9):
        longest_s = min(FIRST_S * 2**number, LONGEST_S)
        assert all(longest_s / 2 <= delay[number] <= longest_s for delay in delays_s)
    assert len({delay[0] for delay in delays_s}) > 1


def test_it_begins_anew_after_a_success() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= FIRST_S


def test_what_the_server_asks_for_is_followed_within_the_bound() -> None:
    assert Backoff().next_s(5.0) == 5.0
    assert Backoff().next_s(86_400.0) == LONGEST_S
