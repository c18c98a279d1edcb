"""Order, loss and lateness, on the timeline and through the source."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.audio import Samples, encode_opus
from tests.support.radio import packets_of
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.pcm import (
    CONCEAL_SAMPLES,
    FADE_SAMPLES,
    PcmBlock,
    PcmCounters,
    PcmTimeline,
    faded_in,
    faded_out,
)


@pytest.fixture(scope="module")
def packets(speech: Samples) -> list[OpusPacket]:
    return packets_of(encode_opus(speech), sequence=65_530, timestamp=2**32 - 4800)


class Timeline:
    def __init__(self) -> None:
        self.blocks: list[PcmBlock] = []
        self.counters = PcmCounters()
        self.core = PcmTimeline(self.blocks.append, self.counters)

    def push(self, *packets: OpusPacket) -> None:
        for packet in packets:
            self.core.push(packet)

    @property
    def samples(self) -> Samples:
        return np.concatenate([block.samples for block in self.blocks])[:, 0].astype(np.float32)

    @property
    def concealed(self) -> list[bool]:
        return [block.concealed for block in self.blocks]

    def assert_no_hole(self) -> None:
        for before, after in zip(self.blocks, self.blocks[1:], strict=False):
            assert before.timestamp + len(before.samples) == after.timestamp


def test_blocks_follow_the_packets(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[:50])
    timeline.assert_no_hole()
    assert [block.timestamp for block in timeline.blocks] == [packet.timestamp for packet in packets[:50]]
    assert not any(timeline.concealed)


@pytest.mark.parametrize("order", [(0, 2, 1, 3, 4), (0, 3, 1, 2, 4), (0, 3, 2, 1, 4)])
def test_reordered_packets_are_put_right(packets: list[OpusPacket], order: tuple[int, ...]) -> None:
    timeline, in_order = Timeline(), Timeline()
    timeline.push(*(packets[index] for index in order))
    in_order.push(*packets[:5])
    assert np.array_equal(timeline.samples, in_order.samples)
    assert timeline.counters.late_packets == 0


def test_a_duplicate_is_dropped(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[:5], packets[3], packets[6], packets[6], packets[5])
    assert timeline.counters.late_packets == 2
    assert timeline.counters.decoded_packets == 7
    timeline.assert_no_hole()


def test_a_lost_packet_is_concealed(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[100:110], *packets[111:115])
    assert timeline.concealed.index(True) == 10
    assert timeline.counters.concealed_packets == 1
    timeline.assert_no_hole()
    timeline.push(packets[110])
    assert timeline.counters.late_packets == 1


def test_a_consumer_in_need_gets_what_waits_first(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[100:110], packets[111])
    assert len(timeline.blocks) == 10
    assert timeline.core.conceal()
    assert timeline.concealed[10:] == [True, False]


def test_concealment_ends_and_fades_out_and_what_comes_after_fades_in(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[140:150])
    assert sum(timeline.core.conceal() for _ in range(20)) * 960 == CONCEAL_SAMPLES
    assert np.abs(timeline.samples[-20:]).max() <= 2
    timeline.push(*packets[200:203])
    first = timeline.blocks[-3]
    assert first.timestamp == packets[200].timestamp
    assert np.abs(first.samples[:5]).max() <= 4
    assert np.abs(first.samples[-240:]).max() > 300


def test_packets_later_than_their_concealment_are_dropped(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[100:110])
    assert timeline.core.conceal()
    assert timeline.core.conceal()
    timeline.push(packets[110], packets[111], packets[112])
    assert timeline.counters.late_packets == 2
    timeline.assert_no_hole()
    assert not timeline.concealed[-1]


def test_a_pause_is_a_hole_after_a_fade(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    resumed = packets[150]._replace(sequence=packets[149].sequence + 1, timestamp=packets[149].timestamp + 96_000)
    timeline.push(*packets[140:150], resumed)
    assert timeline.blocks[-1].timestamp == resumed.timestamp
    assert sum(timeline.concealed) * 960 == CONCEAL_SAMPLES
    assert np.abs(timeline.blocks[-2].samples[-20:]).max() <= 2


def test_a_broken_packet_is_as_a_lost_one(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[100:110], packets[110]._replace(payload=b"\xff\xff"), *packets[111:115])
    assert timeline.counters.broken_packets == 1
    assert timeline.counters.concealed_packets == 1
    timeline.assert_no_hole()


def test_the_end_gives_what_waits_and_fades_out(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    timeline.push(*packets[140:149], packets[150])
    timeline.core.finish()
    assert not timeline.blocks[-2].concealed
    assert timeline.blocks[-2].timestamp == packets[150].timestamp
    assert np.abs(timeline.samples[-5:]).max() <= 2


def test_a_timeline_that_begins_anew_is_followed(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    again = [packet._replace(sequence=packet.sequence + 100, timestamp=packet.timestamp - 10**6) for packet in packets]
    timeline.push(*packets[:100], *again[:20])
    assert [block.timestamp for block in timeline.blocks[-20:]] == [packet.timestamp for packet in again[:20]]


def test_a_hole_of_one_sample_is_filled(packets: list[OpusPacket]) -> None:
    timeline = Timeline()
    later = [packet._replace(timestamp=packet.timestamp + 1) for packet in packets[110:113]]
    timeline.push(*packets[100:110], *later)
    timeline.assert_no_hole()
    assert [len(block.samples) for block in timeline.blocks if block.concealed] == [1]


# The fade


def test_sound_fades_in_within_five_milliseconds_and_is_itself_from_then_on() -> None:
    level = np.full((960, 2), 10_000, np.int16)
    faded = faded_in(level)[:, 0]
    assert faded[0] == 0
    assert faded[120] == pytest.approx(5_000, abs=1), "half of the level after half of the time"
    assert faded[60] == pytest.approx(10_000 * np.sin(np.pi / 8) ** 2, abs=1)
    assert np.all(np.diff(faded[:241].astype(int)) >= 0)
    assert faded[239] < faded[240] == 10_000
    assert np.array_equal(faded_in(level)[240:], level[240:])
    assert level[0, 0] == 10_000, "the samples are shared, and must stay as they are"


def test_sound_fades_out_over_its_whole_length_as_it_fades_in() -> None:
    level = np.full((240, 2), 10_000, np.int16)
    assert np.array_equal(faded_out(level), faded_in(level)[::-1])


def test_a_fade_is_no_longer_than_what_there_is() -> None:
    samples = np.full((FADE_SAMPLES // 2, 2), 10_000, np.int16)
    faded = faded_in(samples)
    assert faded.shape == samples.shape
    assert faded[0, 0] == 0
    assert faded[-1, 0] > 9_900
