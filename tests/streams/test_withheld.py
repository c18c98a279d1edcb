"""What is kept of a client that is not heard yet."""

from __future__ import annotations

from tests.support.publishing import Recorder
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack
from voice_streaming.streams.withheld import Withheld


async def test_what_came_just_before_is_passed_on_once_and_in_order() -> None:
    track, sink, withheld = OpusTrack(), Recorder(), Withheld()
    VoiceRelay().attach(track, sink)
    for number in range(20):
        assert withheld.publish(7, number, number * 960, False, bytes([number]), 100 + number * 0.02)
    source = track.take_source()
    withheld.pass_on(source, 100.4)
    assert [packet.payload for packet in sink.packets] == [bytes([number]) for number in range(10, 20)]
    assert [packet.sequence - sink.packets[0].sequence for packet in sink.packets] == list(range(10))
    withheld.pass_on(source, 100.4)
    assert len(sink.packets) == 10


async def test_a_flood_is_kept_within_bounds() -> None:
    track, sink, withheld = OpusTrack(), Recorder(), Withheld()
    VoiceRelay().attach(track, sink)
    for number in range(10_000):
        withheld.publish(7, number & 0xFFFF, number, False, b"flood", 1.0)
    withheld.pass_on(track.take_source(), 1.0)
    assert 0 < len(sink.packets) <= 80


async def test_what_is_released_is_gone() -> None:
    track, sink, withheld = OpusTrack(), Recorder(), Withheld()
    VoiceRelay().attach(track, sink)
    withheld.publish(7, 1, 960, False, b"private", 1.0)
    withheld.release()
    withheld.pass_on(track.take_source(), 1.0)
    assert not sink.packets
