"""Order, pauses, loss, jitter and clocks that are wrong: what the line makes of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ogg import ticks_of
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.opus_line import (
    DRIFT_TICKS,
    LEAST_TICKS,
    SILENT_PACKETS,
    OpusLine,
    OpusLineCounters,
    silence,
)

MS = 48
PATIENCE = 120 * MS
VOICE = b"\x48" + bytes(60)
"""SILK, 20 ms."""
QUIET_VOICE = b"\x48" + bytes(9)


class Line:
    """What comes out, and at which position."""

    def __init__(self, position: int = 0) -> None:
        self.counters = OpusLineCounters()
        self.out: list[tuple[int, bytes]] = []
        self._position = position
        self.core = OpusLine(self._take, self.counters, patience=PATIENCE, position=position)

    def _take(self, payload: bytes, ticks: int) -> None:
        assert ticks == ticks_of(payload)
        self.out.append((self._position, payload))
        self._position += ticks
        self.most_ahead = 0

    def play(self, arrivals: Iterable[tuple[float, OpusPacket]], until: float, every: int = 60 * MS) -> None:
        """Packets by the time of their arrival, and the clock in between."""
        due: float = every
        for arrived, packet in sorted(arrivals, key=lambda arrival: arrival[0]):
            while due < arrived:
                self.core.advance(due)
                due += every
            self.core.push(packet, arrived)
        while due <= until:
            self.core.advance(due)
            due += every

    @property
    def voice(self) -> list[tuple[int, int]]:
        """Number and position of every packet of `packets`."""
        return [(int.from_bytes(payload[1:5]), at) for at, payload in self.out if len(payload) > 4]


def packets(count: int, *, first: int = 0, step: int = 960, size: int = 60) -> list[OpusPacket]:
    """20 ms each, with its number in it."""
    return [
        OpusPacket(b"\x48" + number.to_bytes(4) + bytes(size), number, number * step, False, 0.0)
        for number in range(first, first + count)
    ]


def in_time(made: Iterable[OpusPacket], begun: float = 0.0) -> list[tuple[float, OpusPacket]]:
    """Each arrives when its last sample has been spoken."""
    return [(begun + packet.timestamp + 960, packet) for packet in made]


@given(st.integers(0, 48_000))
def test_silence_is_as_long_as_asked_but_for_less_than_the_shortest_packet(length: int) -> None:
    made = list(silence(length))
    assert 0 <= length - sum(ticks for _, ticks in made) < LEAST_TICKS
    assert all(ticks == ticks_of(payload) for payload, ticks in made)


def test_unbroken_speech_passes_as_it_came() -> None:
    line = Line()
    line.play(in_time(packets(500)), until=480_000)
    assert [payload for _, payload in line.out] == [packet.payload for packet in packets(500)]
    assert line.counters.anchored == 1


def test_a_pause_is_silence_of_its_length_as_time_passes() -> None:
    made = packets(100) + packets(100, first=400)
    line = Line()
    line.play(in_time(made[:100]), until=300 * 960)
    assert 0 <= 300 * 960 - PATIENCE - line.core.position < 960 + 60 * MS
    line = Line()
    line.play(in_time(made), until=500 * 960)
    assert [at for _, at in line.voice] == [packet.timestamp for packet in made]


def test_dtx_keeps_its_times_to_the_shortest_packet() -> None:
    """A packet every 400 ms, as libopus has it."""
    made = [packet for packet in packets(400) if packet.sequence < 50 or packet.sequence % 20 == 0]
    made = [packet._replace(sequence=index) for index, packet in enumerate(made)]
    line = Line()
    line.play(in_time(made), until=400 * 960)
    assert all(abs(at - number * 960) < LEAST_TICKS for number, at in line.voice)
    assert len(line.voice) == len(made)


@pytest.mark.parametrize("jump", [3600 * 48_000, -3600 * 48_000, 2**40, 48_000])
def test_a_timestamp_that_jumps_adds_nothing(jump: int) -> None:
    made = in_time(packets(100)) + [
        (arrived, packet._replace(timestamp=packet.timestamp + jump))
        for arrived, packet in in_time(packets(100, first=100))
    ]
    line = Line()
    line.play(made, until=200 * 960)
    assert [number for number, _ in line.voice] == list(range(200))
    assert line.core.position == 200 * 960
    assert line.counters.silence_ticks == 0


def test_lost_packets_are_left_to_the_decoder_and_longer_holes_are_silent() -> None:
    lost = {20, 50, 51, 52, *range(100, 140)}
    line = Line()
    line.play(in_time(packet for packet in packets(200) if packet.sequence not in lost), until=200 * 960)
    assert [at for number, at in line.voice] == [number * 960 for number in range(200) if number not in lost]
    concealed = [at // 960 for at, payload in line.out if payload == b"\x48"]
    assert concealed == [20, 50, 51, 52]
    assert line.counters.silence_ticks == 40 * 960


@given(st.permutations([0, 1, 2]), st.integers(2, 90))
def test_reordering_is_not_seen(order: list[int], at: int) -> None:
    made = in_time(packets(100))
    now = [arrived for arrived, _ in made[at : at + 3]]
    swapped = [(now[2], made[at + index][1]) for index in order]
    line = Line()
    for arrived, packet in made[:at] + swapped + made[at + 3 :]:
        line.core.push(packet, arrived)
    line.core.finish()
    assert [number for number, _ in line.voice] == list(range(100))


def test_twice_and_too_late_are_dropped() -> None:
    made = in_time(packets(100))
    line = Line()
    line.play([*made, made[50], (made[60][0] + 1, made[60][1]), (90 * 960, made[10][1])], until=100 * 960)
    assert [number for number, _ in line.voice] == list(range(100))
    assert line.counters.late_packets == 3


@given(st.integers(0, 2**31))
def test_jitter_below_the_patience_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    made = packets(300)
    arrivals = [(packet.timestamp + 960 + rng.uniform(0, PATIENCE - 60 * MS), packet) for packet in made[1:]]
    line = Line()
    line.play([(960, made[0]), *arrivals], until=300 * 960)
    line.core.finish()
    assert line.counters.silence_ticks == 0
    # Some were overtaken by more than three: these are left to the decoder.
    assert line.core.position == 300 * 960


def test_what_the_network_held_up_is_dropped_and_the_rest_is_in_time() -> None:
    """Half a second at once."""
    made = [
        (max(arrived, 125 * 960) if arrived > 100 * 960 else arrived, packet)
        for arrived, packet in in_time(packets(300))
    ]
    line = Line()
    line.play(made, until=300 * 960)
    assert all(abs(at - number * 960) <= 960 for number, at in line.voice)
    assert 5 < line.counters.late_packets < 25


def test_a_delay_that_stays_is_followed() -> None:
    made = [(arrived + 400 * MS * (arrived > 100 * 960), packet) for arrived, packet in in_time(packets(500))]
    line = Line()
    line.play(made, until=520 * 960)
    assert line.counters.late_packets < 30
    assert line.voice[-1][0] == 499


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_sender_whose_clock_is_wrong_stays_in_time(ppm: int) -> None:
    """An hour without a pause in its packets; every fifth second is quiet."""
    line = Line()
    at = 0.0
    for number in range(180_000):
        payload = QUIET_VOICE if number % 250 > 200 else VOICE
        at += 960 * (1 - ppm * 1e-6)
        line.core.push(OpusPacket(payload, number, number * 960, False, 0.0), at)
        if number % 3 == 0:
            line.core.advance(at)
    assert abs(line.core.position - at) < DRIFT_TICKS + 960
    left_out, silent = line.counters.left_out_packets, line.counters.silence_ticks // 960
    corrections, others = (left_out, silent) if ppm > 0 else (silent, left_out)
    assert corrections == pytest.approx(34, abs=3)
    assert others == 0
    assert all(payload != VOICE for payload in _neighbours(line.out)), "only quiet packets are preceded by silence"


def _neighbours(out: list[tuple[int, bytes]]) -> list[bytes]:
    silent = SILENT_PACKETS[960]
    return [after for (_, before), (_, after) in itertools.pairwise(out) if before == silent]


@given(st.data())
def test_whatever_comes_the_line_keeps_to_the_clock(data: st.DataObject) -> None:
    """Sequences, timestamps, lengths and times at random: never more than a second ahead, nor behind a patience."""
    line = Line()
    due, sequence = 0.0, 0
    for _ in range(data.draw(st.integers(1, 60))):
        due += data.draw(st.sampled_from([0, 0, 120, 960, 960, 4800, 48_000]))
        sequence += data.draw(st.sampled_from([-5, 0, 1, 1, 1, 1, 2, 300]))
        timestamp = data.draw(st.one_of(st.integers(-(2**40), 2**40), st.just(sequence * 960)))
        toc = data.draw(st.sampled_from([0x48, 0xE0, 0xFC, 0x18, 0x01, 0x03]))
        line.core.push(
            OpusPacket(bytes([toc]) + data.draw(st.binary(max_size=9)), sequence, timestamp, False, 0.0), due
        )
        line.core.advance(due)
        assert line.core.position <= due + 48_000 + 5760
    line.core.advance(due + 480_000)
    assert due + 480_000 - line.core.position <= PATIENCE + 960


def test_a_flood_is_bounded_by_the_clock() -> None:
    line = Line()
    for packet in packets(10_000):
        line.core.push(packet, packet.timestamp / 10)
    assert line.core.position <= 10_000 * 96 + 48_000
    assert line.counters.early_packets > 8000


def test_broken_packets_are_counted_and_left_out() -> None:
    line = Line()
    line.core.push(OpusPacket(b"\x03", 0, 0, False, 0.0), 960)
    assert (line.counters.broken_packets, line.out) == (1, [])


@pytest.mark.usefixtures("untraced")
def test_six_hours_of_dtx_and_speech_are_six_hours_long() -> None:
    """Speech of 5 s and a pause of 55 s, by a clock that is off by 200 ppm."""
    line = Line()
    clock = 1.0002
    for minute in range(6 * 60):
        for packet in packets(250, first=minute * 250):
            spoken = (minute * 60 * 48_000 + (packet.sequence - minute * 250 + 1) * 960) * clock
            timestamp = minute * 60 * 48_000 + (packet.sequence - minute * 250) * 960
            line.core.push(packet._replace(timestamp=timestamp), spoken)
        line.core.advance((minute * 60 + 59) * 48_000 * clock)
    line.core.finish(6 * 3600 * 48_000 * clock)
    assert abs(line.core.position - 6 * 3600 * 48_000 * clock) < 25 * MS
    assert len(line.voice) == 6 * 60 * 250
