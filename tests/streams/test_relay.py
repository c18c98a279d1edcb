from __future__ import annotations

import asyncio
from collections.abc import Callable

import av
import pytest
from aiortc import AudioStreamTrack
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError

from tests.support.publishing import hand_out
from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.relay import QUEUE_PACKETS, TIME_BASE, FirstPacket, SubscribedTrack, VoiceRelay
from voice_streaming.streams.track import OpusTrack


def packet(number: int) -> OpusPacket:
    return OpusPacket(b"voice %d" % number, number, number * 960, number == 0, number * 0.02)


class Recorder:
    """A sink that keeps what it is told; `act` runs at each packet."""

    def __init__(self, act: Callable[[OpusPacket], None] = lambda packet: None) -> None:
        self.told: list[OpusPacket | str] = []
        self._act = act

    def on_packet(self, packet: OpusPacket) -> None:
        self.told.append(packet)
        self._act(packet)

    def on_end(self) -> None:
        self.told.append("end")


async def settle() -> None:
    """Lets every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def receive(track: SubscribedTrack, count: int) -> list[bytes]:
    async with asyncio.timeout(5):
        items = [await track.recv() for _ in range(count)]
    return [bytes(item) for item in items if isinstance(item, av.Packet)]


# Sinks


async def test_packets_reach_every_sink_in_the_call_that_published_them() -> None:
    relay, track, first, second = VoiceRelay(), OpusTrack(), Recorder(), Recorder()
    relay.attach(track, first)
    hand_out(track, packet(0))
    relay.attach(track, second)
    relay.attach(track, second)
    hand_out(track, packet(1))
    relay.detach(track, first)
    relay.detach(track, first)
    hand_out(track, packet(2))
    assert first.told == [packet(0), packet(1)]
    assert second.told == [packet(1), packet(2)]
    assert (track.packets, track.payload_bytes, track.last_packet_s) == (3, 21, 0.04)


async def test_the_end_is_notified_once_and_nothing_comes_after_it() -> None:
    relay, track, sink = VoiceRelay(), OpusTrack(), Recorder()
    relay.attach(track, sink)
    track.stop()
    track.stop()
    hand_out(track, packet(0))
    assert sink.told == ["end"]
    assert track.packets == 0


async def test_a_sink_attached_after_the_end_is_notified_at_once() -> None:
    relay, track, sink = VoiceRelay(), OpusTrack(), Recorder()
    track.stop()
    relay.attach(track, sink)
    assert sink.told == ["end"]


async def test_a_sink_that_fails_is_detached_and_the_others_do_not_notice(caplog: pytest.LogCaptureFixture) -> None:
    def fail(packet: OpusPacket) -> None:
        raise ZeroDivisionError("by design")

    relay, track = VoiceRelay(), OpusTrack()
    sinks = [Recorder(), Recorder(fail), Recorder()]
    for sink in sinks:
        relay.attach(track, sink)
    for number in range(3):
        hand_out(track, packet(number))
    assert [len(sink.told) for sink in sinks] == [3, 1, 3]
    (record,) = caplog.records
    assert "Recorder failed and is detached" in record.getMessage()
    track.stop()
    assert sinks[1].told == [packet(0)]


async def test_a_sink_that_fails_at_the_end_does_not_keep_it_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class FailsAtEnd(Recorder):
        def on_end(self) -> None:
            raise ZeroDivisionError

    relay, track, sink = VoiceRelay(), OpusTrack(), Recorder()
    relay.attach(track, FailsAtEnd())
    relay.attach(track, sink)
    track.stop()
    assert sink.told == ["end"]
    assert len(caplog.records) == 1


async def test_sinks_may_attach_and_detach_within_their_own_calls() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    late = Recorder()

    def hand_over(packet: OpusPacket) -> None:
        relay.detach(track, once)
        relay.attach(track, late)

    once = Recorder(hand_over)
    always = Recorder()
    relay.attach(track, once)
    relay.attach(track, always)
    for number in range(3):
        hand_out(track, packet(number))
    assert once.told == [packet(0)]
    assert always.told == [packet(0), packet(1), packet(2)]
    # A first packet brings listeners, who are not to miss it.
    assert late.told == [packet(0), packet(1), packet(2)]


async def test_a_sink_that_another_detached_gets_nothing_more() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    victim = Recorder()
    relay.attach(track, Recorder(lambda packet: relay.detach(track, victim)))
    relay.attach(track, victim)
    hand_out(track, packet(0))
    assert victim.told == []


async def test_nothing_comes_after_the_end_even_if_a_sink_ends_the_track() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    sinks = [Recorder(), Recorder(lambda packet: track.stop()), Recorder()]
    for sink in sinks:
        relay.attach(track, sink)
    hand_out(track, packet(0))
    assert [sink.told for sink in sinks] == [[packet(0), "end"], [packet(0), "end"], ["end"]]


# Subscribers


async def test_a_subscriber_gets_av_packets_from_the_moment_that_it_subscribes() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    assert isinstance(relay, MediaRelay)
    hand_out(track, packet(0))
    subscribed = relay.subscribe(track)
    hand_out(track, packet(1))
    item = await subscribed.recv()
    assert isinstance(item, av.Packet)
    assert (bytes(item), item.pts, item.dts, item.time_base) == (b"voice 1", 960, 960, TIME_BASE)
    assert subscribed.kind == "audio"


async def test_a_late_consumer_loses_the_oldest_and_they_are_counted() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    late, prompt = relay.subscribe(track), relay.subscribe(track, buffered=False)
    for number in range(QUEUE_PACKETS + 30):
        hand_out(track, packet(number))
        assert await receive(prompt, 1) == [packet(number).payload]
    assert (late.dropped, prompt.dropped) == (30, 0)
    expected = [packet(number).payload for number in range(30, QUEUE_PACKETS + 30)]
    assert await receive(late, QUEUE_PACKETS) == expected


async def test_what_was_queued_is_read_before_the_end() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    subscribed = relay.subscribe(track)
    for number in range(3):
        hand_out(track, packet(number))
    track.stop()
    assert await receive(subscribed, 3) == [packet(number).payload for number in range(3)]
    with pytest.raises(MediaStreamError):
        await subscribed.recv()
    assert subscribed.readyState == "ended"


async def test_a_consumer_that_waits_at_the_end_is_notified() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    waiting = asyncio.create_task(relay.subscribe(track).recv())
    await settle()
    track.stop()
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(waiting, 5)


async def test_a_consumer_subscribed_after_the_end_is_notified_at_once() -> None:
    """aiortc's own proxy waits for ever here."""
    relay, track = VoiceRelay(), OpusTrack()
    track.stop()
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(relay.subscribe(track).recv(), 5)


async def test_who_stops_gets_nothing_more() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    subscribed = relay.subscribe(track)
    waiting = asyncio.create_task(subscribed.recv())
    await settle()
    subscribed.stop()
    hand_out(track, packet(0))
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(MediaStreamError):
        await subscribed.recv()


async def test_an_opus_track_is_read_through_the_relay() -> None:
    with pytest.raises(MediaStreamError, match="subscribe"):
        await OpusTrack().recv()


async def test_a_track_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="AudioStreamTrack is no OpusTrack"):
        VoiceRelay().subscribe(AudioStreamTrack())


async def test_a_track_has_one_decode_and_the_relay_counts_of_all() -> None:
    relay, first, second = VoiceRelay(), OpusTrack(), OpusTrack()
    source = relay.pcm(first)
    assert relay.pcm(first) is source
    assert relay.pcm(second) is not source
    assert relay.pcm_counters.decoded_packets == 0


async def test_the_next_packet_is_told_once() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    calls: list[str] = []
    hand_out(track, packet(0))
    FirstPacket(relay, track, lambda: calls.append("call"))
    assert calls == []
    hand_out(track, packet(1))
    hand_out(track, packet(2))
    assert calls == ["call"]


async def test_a_packet_that_never_comes_is_not_told() -> None:
    relay, track = VoiceRelay(), OpusTrack()
    calls: list[str] = []
    FirstPacket(relay, track, lambda: calls.append("call"))
    track.stop()
    await settle()
    assert calls == []
