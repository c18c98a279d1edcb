"""One decode for all sinks of a track, while there are any."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from tests.support.audio import Samples, encode_opus
from tests.support.publishing import hand_out
from tests.support.radio import packets_of
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.pcm import PcmBlock
from voice_streaming.streams.pcm_source import PcmSource
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack


@pytest.fixture(scope="module")
def packets(speech: Samples) -> list[OpusPacket]:
    return packets_of(encode_opus(speech), sequence=65_530, timestamp=2**32 - 4800)


class Sink:
    def __init__(self) -> None:
        self.blocks: list[PcmBlock] = []
        self.ends = 0

    def on_pcm(self, block: PcmBlock) -> None:
        self.blocks.append(block)

    def on_end(self) -> None:
        self.ends += 1


class FailingSink(Sink):
    def on_pcm(self, block: PcmBlock) -> None:
        raise RuntimeError("on purpose")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def ended_source(packets: list[OpusPacket], sink: Sink, *, pulls: bool = False) -> PcmSource:
    """A source that this sink was attached to when its track ended, one packet after it began."""
    relay, track = VoiceRelay(), OpusTrack()
    source = relay.pcm(track)
    source.attach(sink, pulls=pulls)
    hand_out(track, packets[0])
    track.stop()
    await turns()
    return source


async def test_one_decode_serves_all_and_only_while_someone_needs_it(packets: list[OpusPacket]) -> None:
    relay, track = VoiceRelay(), OpusTrack()
    first, second = Sink(), Sink()
    source = relay.pcm(track)
    assert relay.pcm(track) is source
    hand_out(track, packets[0])
    await turns()
    source.attach(first)
    source.attach(second)
    for packet in packets[1:5]:
        hand_out(track, packet)
    assert first.blocks == [], "decoding must not hold up the datagram's callback"
    await turns()
    assert relay.pcm_counters.decoded_packets == 4
    assert first.blocks[-1] is second.blocks[-1]
    source.detach(first)
    source.detach(second)
    hand_out(track, packets[5])
    await turns()
    assert relay.pcm_counters.decoded_packets == 4
    del source
    assert not relay._pcm, "an unused source is kept"


async def test_the_end_comes_after_the_last_block_and_once(packets: list[OpusPacket]) -> None:
    relay, track, sink = VoiceRelay(), OpusTrack(), Sink()
    relay.pcm(track).attach(sink)
    for packet in packets[:3]:
        hand_out(track, packet)
    track.stop()
    await turns()
    assert [block.concealed for block in sink.blocks] == [False, False, False, True]
    assert sink.ends == 1
    late = Sink()
    relay.pcm(track).attach(late)
    await turns()
    assert late.ends == 1


async def test_who_attaches_to_a_source_that_has_ended_is_told_at_once(packets: list[OpusPacket]) -> None:
    sink, late = Sink(), Sink()
    source = await ended_source(packets, sink)
    source.attach(late)
    assert (sink.ends, late.ends, late.blocks) == (1, 1, [])
    await turns()
    assert (sink.ends, late.ends) == (1, 1)


async def test_a_source_that_has_ended_lets_go_of_its_sinks_and_has_nothing_to_pull(packets: list[OpusPacket]) -> None:
    sink = Sink()
    source = await ended_source(packets, sink, pulls=True)
    assert sink.ends == 1
    assert not source.conceal()
    gone = weakref.ref(sink)
    del sink
    assert gone() is None


async def test_a_sink_that_fails_while_it_pulls_has_nothing_more_to_pull(packets: list[OpusPacket]) -> None:
    relay, track = VoiceRelay(), OpusTrack()
    source = relay.pcm(track)
    source.attach(FailingSink(), pulls=True)
    for packet in packets[:9]:
        hand_out(track, packet)
    assert source.conceal()
    assert not source.conceal()


async def test_a_sink_that_fails_is_detached_and_the_others_do_not_notice(packets: list[OpusPacket]) -> None:
    relay, track = VoiceRelay(), OpusTrack()
    failing, sink = FailingSink(), Sink()
    source = relay.pcm(track)
    source.attach(failing)
    source.attach(sink)
    for packet in packets[:3]:
        hand_out(track, packet)
    await turns()
    assert len(sink.blocks) == 3


async def test_who_attaches_after_the_end_is_told_at_once_and_nothing_is_decoded_for_it(
    packets: list[OpusPacket],
) -> None:
    sink, late = Sink(), Sink()
    source = await ended_source(packets, sink)
    assert sink.ends == 1
    source.attach(late)
    assert late.ends == 1, "not in a later turn"
    await turns()
    assert (late.ends, late.blocks) == (1, [])
    assert not source.conceal()
