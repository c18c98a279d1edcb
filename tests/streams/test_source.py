"""Who may publish on a track."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.support.publishing import Recorder
from voice_streaming.media.opus import OpusPacket
from voice_streaming.process.refusal import Refused
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.source import Source
from voice_streaming.streams.track import OpusTrack


@pytest.fixture
async def track() -> OpusTrack:
    return OpusTrack()


@pytest.fixture
async def heard(track: OpusTrack) -> list[OpusPacket]:
    sink = Recorder()
    VoiceRelay().attach(track, sink)
    return sink.packets


def say(source: Source, number: int, payload: bytes = b"voice", ssrc: int = 7) -> bool:
    return source.publish(ssrc, number & 0xFFFF, number * 960, number == 0, payload, number * 0.02)


async def test_what_a_source_publishes_is_placed_and_reaches_the_sinks(
    track: OpusTrack, heard: list[OpusPacket]
) -> None:
    source = track.take_source()
    assert say(source, 0, b"one")
    assert say(source, 2, b"three")
    first, third = heard
    assert first == OpusPacket(b"one", first.sequence, first.timestamp, True, 0.0)
    assert third == OpusPacket(b"three", first.sequence + 2, first.timestamp + 1920, False, 0.04)
    assert track.sequence == third.sequence
    assert not say(source, 2, b"again")
    assert len(heard) == 2
    assert (track.packets, track.dropped_packets, source.refused_packets) == (2, 1, 0)


async def test_who_takes_the_source_ends_the_former_one(track: OpusTrack, heard: list[OpusPacket]) -> None:
    former = track.take_source()
    say(former, 0, b"old")
    present = track.take_source()
    assert (former.is_current, present.is_current) == (False, True)
    assert not say(former, 1, b"too late")
    assert say(present, 0, b"new")
    assert [packet.payload for packet in heard] == [b"old", b"new"]
    assert (former.refused_packets, present.refused_packets) == (1, 0)


async def test_the_same_ssrc_that_counts_from_anew_is_an_epoch_of_its_own(
    track: OpusTrack, heard: list[OpusPacket]
) -> None:
    before = track.take_source()
    say(before, 20_000)
    again = track.take_source()
    say(again, 0)
    say(again, 1)
    assert [packet.sequence - heard[0].sequence for packet in heard] == [0, 1, 2]


async def test_a_source_that_is_given_back_publishes_no_more(track: OpusTrack, heard: list[OpusPacket]) -> None:
    source = track.take_source()
    source.release()
    source.release()
    assert not say(source, 0)
    assert (heard, source.refused_packets) == ([], 1)


async def test_an_exclusive_source_is_nobody_elses_until_it_is_given_back(
    track: OpusTrack, heard: list[OpusPacket]
) -> None:
    own = track.take_source(exclusive=True)
    for attempt in (track.check_takeable, track.take_source):
        with pytest.raises(Refused) as refusal:
            attempt()
        assert refusal.value.code == "name_taken"
    assert say(own, 0)
    own.release()
    track.check_takeable()
    assert say(track.take_source(), 0)
    assert len(heard) == 2


async def test_the_end_of_the_track_ends_its_source_and_every_later_one(track: OpusTrack) -> None:
    source = track.take_source()
    track.stop()
    late = track.take_source()
    for one in (source, late):
        assert not one.is_current
        assert not say(one, 0)
        assert one.refused_packets == 1
    assert track.packets == 0


async def test_a_track_that_ended_is_freed_without_a_collection() -> None:
    track = OpusTrack()
    source = track.take_source()
    forgotten = weakref.ref(track)
    gc.disable()
    try:
        track.stop()
        del track
        assert forgotten() is None
    finally:
        gc.enable()
    assert not source.is_current
