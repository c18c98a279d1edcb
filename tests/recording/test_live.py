"""One recording in real time, by a clock of the test: it is as long as it took."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest

from tests.support.ogg import payloads_of, read_ogg_opus, read_pages, read_tags, ticks_of
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.opus_line import OpusLineCounters
from voice_streaming.recording.live import LiveRecording, Ring, is_silent
from voice_streaming.recording.model import State
from voice_streaming.streams.stream import Stream
from voice_streaming.streams.track import OpusTrack

VOICE = b"\x48" + bytes(range(60))
DTX = b"\x48"
BEGUN_S = 1000.0
AT = datetime(2026, 11, 25, 14, 3, 22, tzinfo=UTC)


def packets(
    count: int, *, sequence: int = 0, timestamp: int = 0, ppm: float = 0.0, at_s: float = BEGUN_S
) -> Iterator[OpusPacket]:
    for index in range(count):
        arrived_s = at_s + (index + 1) * 0.02 / (1 + ppm * 1e-6)
        yield OpusPacket(VOICE, sequence + index, timestamp + index * 960, index == 0, arrived_s)


def recording() -> LiveRecording:
    stream = Stream("kitchen", "Kitchen", OpusTrack(), "sender")
    return LiveRecording(stream, "2026-11-25T14-03-22Z kitchen.opus", BEGUN_S, AT, OpusLineCounters())


def record(came: Iterable[OpusPacket], until_s: float, live: LiveRecording | None = None) -> bytes:
    """The whole file, which is written twice a second."""
    live = live or recording()
    parts, due_s = [], BEGUN_S + 0.5
    for packet in came:
        while due_s < packet.arrived_s:
            parts.append(live.take(due_s))
            due_s += 0.5
        live.push(packet)
    while due_s < until_s:
        parts.append(live.take(due_s))
        due_s += 0.5
    return b"".join([*parts, live.finish(until_s)])


def length_s(data: bytes) -> float:
    return (sum(map(ticks_of, payloads_of(read_ogg_opus(data)))) - 312) / 48_000


def test_every_packet_is_in_the_file_as_it_came() -> None:
    data = record(packets(500), BEGUN_S + 10)
    assert [payload for payload in payloads_of(read_ogg_opus(data)) if payload == VOICE] == [VOICE] * 500
    assert length_s(data) == pytest.approx(10, abs=0.02)


def test_the_tags_say_whose_voice_it_is() -> None:
    live = recording()
    live.stream.rooms = ("Office",)
    live = LiveRecording(live.stream, live.file_name, BEGUN_S, AT, OpusLineCounters())
    tags = read_tags(read_pages(record(packets(5), BEGUN_S + 1, live))[1].packets[0])
    assert tags == {
        "TITLE": "Kitchen 2026-11-25 14:03",
        "ARTIST": "Kitchen",
        "DATE": "2026-11-25T14:03:22Z",
        "STREAM": "kitchen",
        "ROOMS": '["Office"]',
    }


def test_ten_minutes_of_dtx_are_ten_minutes_long() -> None:
    # One packet each 400 ms, as libopus sends in silence.
    came = [OpusPacket(DTX, index, index * 19_200, False, BEGUN_S + 0.02 + index * 0.4) for index in range(1500)]
    assert length_s(record(came, BEGUN_S + 600)) == pytest.approx(600, abs=0.1)


def test_a_tenth_that_is_lost_changes_no_length() -> None:
    chance = random.Random(1)
    came = [packet for packet in packets(3000) if chance.random() > 0.1]
    data = record(came, BEGUN_S + 60)
    assert length_s(data) == pytest.approx(60, abs=0.1)
    assert payloads_of(read_ogg_opus(data)).count(VOICE) == len(came)


def test_packets_out_of_order_are_put_in_order() -> None:
    came = [
        OpusPacket(b"\x48" + bytes([index % 256]) * 60, index, index * 960, False, BEGUN_S + 0.02 * (index + 1))
        for index in range(200)
    ]
    # Whoever is first begins the file: what came before it is not known.
    order = [0, *(index + step for index in range(1, 199, 2) for step in (1, 0)), 199]
    mixed = [came[index]._replace(arrived_s=before.arrived_s) for index, before in zip(order, came, strict=True)]
    found = [payload for payload in payloads_of(read_ogg_opus(record(mixed, BEGUN_S + 4))) if len(payload) == 61]
    assert found == [packet.payload for packet in came]


def test_a_clock_that_jumps_by_hours_adds_nothing() -> None:
    came = [*packets(250), *packets(250, sequence=250, timestamp=10**10, at_s=BEGUN_S + 5)]
    came += packets(250, sequence=500, timestamp=77, at_s=BEGUN_S + 10)
    assert length_s(record(came, BEGUN_S + 15)) == pytest.approx(15, abs=0.1)


def test_a_sender_that_is_away_leaves_silence_of_that_length() -> None:
    came = [*packets(250), *packets(250, sequence=9000, timestamp=0, at_s=BEGUN_S + 12)]
    data = record(came, BEGUN_S + 17)
    assert length_s(data) == pytest.approx(17, abs=0.1)
    assert payloads_of(read_ogg_opus(data)).count(VOICE) == 500


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_sender_whose_clock_is_wrong_is_put_right_in_pauses(ppm: int) -> None:
    came: list[OpusPacket] = []
    for minute in range(30):
        # 50 s of speech, and a pause.
        begin = minute * 60 * 48_000
        came += packets(2500, sequence=minute * 2500, timestamp=begin, ppm=ppm, at_s=BEGUN_S + minute * 60)
    assert length_s(record(came, BEGUN_S + 1800)) == pytest.approx(1800, abs=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_day_is_a_day_long() -> None:
    """24 hours by the clock: a word a minute, and a sender that comes back each hour with other numbers."""
    live = recording()
    size = ticks = 0
    sequence = 0
    for minute in range(24 * 60):
        begin_s = BEGUN_S + minute * 60
        restarted = 0 if minute % 60 else 10**9
        for packet in packets(50, sequence=sequence, timestamp=minute * 60 * 48_000 + restarted, at_s=begin_s):
            live.push(packet)
        sequence += 50
        taken = live.take(begin_s + 59)
        size += len(taken)
        if minute % 60 == 59:
            ticks = read_pages(taken)[-1].position
    size += len(live.finish(BEGUN_S + 86_400))
    assert live.end_s == pytest.approx(BEGUN_S + 86_400, abs=0.1)
    assert ticks > 86_300 * 48_000
    assert live.bytes == size
    assert live.finished(size).seconds == pytest.approx(86_400, abs=0.1)


def test_what_it_says_of_itself() -> None:
    live = recording()
    state = live.state(BEGUN_S + 5)
    assert (state.stream, state.talker, state.seconds, state.state) == ("kitchen", "Kitchen", 5, State.RECORDING)
    assert state.started_at == "2026-11-25T14:03:22Z"


def test_the_ring_keeps_the_last_seconds() -> None:
    ring = Ring(2.0)
    for packet in packets(500):
        ring.add(packet)
    taken = ring.take(BEGUN_S + 10.01)
    assert len(taken) == 100
    assert taken[-1].sequence == 499
    assert ring.take(BEGUN_S + 10.01) == []


def test_what_is_old_in_the_ring_is_no_pre_roll() -> None:
    ring = Ring(2.0)
    for packet in packets(500):
        ring.add(packet)
    assert ring.take(BEGUN_S + 60) == []


@pytest.mark.parametrize(
    ("payload", "silent"),
    [(DTX, True), (b"\xf8\xff\xfe", True), (VOICE, False), (b"\x48" + bytes(12), False), (b"\xff", True)],
)
def test_silence_is_told_by_the_bytes(payload: bytes, silent: bool) -> None:
    assert is_silent(payload) is silent
