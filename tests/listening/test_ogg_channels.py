"""Opus in Ogg in virtual time: from packets to each listener's bytes, without sockets."""

from __future__ import annotations

import asyncio
from statistics import median

import pytest

from tests.listening.distribution import BURST_S, offsets_s
from tests.support.audio import Samples, decode_audio
from tests.support.ogg import Page, payloads_of, read_ogg_opus, read_pages
from tests.support.radio import RecordingTransport, send
from tests.support.virtual_time import VirtualTimeLoop, run
from voice_streaming.listening.listeners import Listener
from voice_streaming.listening.ogg import LEAST_BYTES_PER_S
from voice_streaming.listening.ogg_channels import OggChannels
from voice_streaming.media.opus import OpusPacket
from voice_streaming.process.failures import Failures
from voice_streaming.settings.model import AudioSettings
from voice_streaming.streams.grants import EVERYTHING, Grant, Scope
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState
from voice_streaming.streams.track import OpusTrack

KITCHEN_ALONE = Grant(frozenset({Scope.RECEIVE}), frozenset({"kitchen"}))


class Stage:
    """An OggChannels with its registry."""

    def __init__(self, settings: AudioSettings | None = None) -> None:
        self.streams: dict[str, Stream] = {}
        self.failures = Failures()
        self.channels = OggChannels(settings or AudioSettings(), 48_000, VoiceRelay(), self.streams, self.failures)

    def start(self, stream_id: str = "kitchen") -> Stream:
        stream = Stream(stream_id, stream_id, OpusTrack(), "sender")
        stream.advance(StreamState.ACTIVE)
        stream.started_s = asyncio.get_running_loop().time()
        self.streams[stream_id] = stream
        self.channels.on_stream_live(stream)
        return stream

    def end(self, stream: Stream) -> None:
        stream.advance(StreamState.ENDED)
        stream.track.stop()
        self.channels.on_stream_ended(stream, "sender left")
        del self.streams[stream.id]

    def listen(
        self,
        stream: Stream | None = None,
        *,
        follows: bool = True,
        grant: Grant = EVERYTHING,
        burst_s: float | None = None,
    ) -> tuple[Listener, RecordingTransport]:
        transport = RecordingTransport()
        listener = Listener(transport, follows=follows, chunked=False, icy=None, grant=grant)
        self.channels.join(listener, stream, burst_s)
        return listener, transport


def heard(transport: RecordingTransport) -> list[Page]:
    return read_ogg_opus(transport.received, joined=True)


def seconds_of(pages: list[Page]) -> float:
    return sum(page.ticks for page in pages) / 48_000


def test_every_listener_gets_the_same_object(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        stream = stage.start()
        transports = [stage.listen(stream, follows=False)[1] for _ in range(120)]
        await send(stream.track, packets[:50])
        assert (stage.channels.muxers, stage.channels.listeners, stream.listeners) == (1, 120, 120)
        assert len({id(transport.writes[-1][1]) for transport in transports}) == 1
        stage.channels.close()

    run(scene())


def test_a_stream_is_its_own_packets_from_first_to_last(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        stream = stage.start()
        listener, transport = stage.listen(stream, follows=False)
        await send(stream.track, packets)
        stage.end(stream)
        await asyncio.sleep(0.2)
        assert listener.gone.done()
        pages = heard(transport)
        assert pages[-1].flags == 4
        found = payloads_of(pages)
        # One of each page may have been padded.
        assert sum(packet.payload in found for packet in packets) >= 0.8 * len(packets)
        assert stage.channels.muxers == 0

    run(scene())


@pytest.mark.parametrize("page_ms", [60, 80, 100])
def test_pages_come_by_the_clock_as_long_as_set(packets: list[OpusPacket], page_ms: int) -> None:
    async def scene() -> None:
        stage = Stage(AudioSettings(ogg_page_ms=page_ms))
        stream = stage.start()
        _, transport = stage.listen(stream, follows=False)
        begun_s = asyncio.get_running_loop().time()
        await send(stream.track, packets[:250])
        times = [at_s for at_s, _ in transport.writes[1:]]
        assert [round((at_s - begun_s) * 1000) for at_s in times[:5]] == [page_ms * n for n in range(1, 6)]
        passed_s = asyncio.get_running_loop().time() - begun_s
        assert seconds_of(heard(transport)) == pytest.approx(passed_s + BURST_S, abs=0.02 + 2 * page_ms / 1000)

    run(scene())


def test_latest_goes_on_across_streams_as_one_logical_stream(packets: list[OpusPacket], reference: Samples) -> None:
    """Silence, a stream, silence, another stream that a newer one interrupts."""

    async def scene() -> RecordingTransport:
        loop = asyncio.get_running_loop()
        stage = Stage()
        begun_s = loop.time()
        _, transport = stage.listen()
        await asyncio.sleep(1.03)
        for seconds in (2.0, 3.0):
            stream = stage.start()
            await send(stream.track, packets)
            assert stream.listeners == 1
            stage.end(stream)
            await asyncio.sleep(seconds)
        older = stage.start("older")
        speaking = asyncio.create_task(send(older.track, packets))
        await asyncio.sleep(3)
        newer = stage.start("newer")
        assert (older.listeners, newer.listeners) == (0, 1)
        await send(newer.track, packets)
        await speaking
        stage.end(newer)
        await asyncio.sleep(1)
        assert older.listeners == 1, "the older stream is the newest again"
        assert seconds_of(heard(transport)) == pytest.approx(loop.time() - begun_s + BURST_S, abs=0.3)
        return transport

    transport = run(scene())
    samples = decode_audio(transport.received)
    length_s = reference.size / 48_000
    for begin_s in (1.0, 3.0 + length_s):
        part = samples[int(begin_s * 48_000) : int((begin_s + length_s + 0.9) * 48_000)]
        offsets = offsets_s(reference, part)
        usual = median(offsets)
        assert 0 < usual < BURST_S
        assert len([offset for offset in offsets if abs(offset - usual) < 0.001]) >= 15


def test_a_newcomer_gets_a_short_burst_and_as_much_as_it_asks_for(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        stream = stage.start()
        stage.listen(stream, follows=False)
        await send(stream.track, packets[:250])
        for burst_s in (None, 0.0, 2.0, 10.0):
            _, transport = stage.listen(stream, follows=False, burst_s=burst_s)
            wanted_s = BURST_S if burst_s is None else burst_s
            assert wanted_s - 0.21 <= seconds_of(heard(transport)) <= wanted_s
        assert stage.channels.muxers == 1

    run(scene())


def test_silence_has_the_bytes_that_players_wait_for() -> None:
    async def scene() -> None:
        stage = Stage()
        _, transport = stage.listen()
        await asyncio.sleep(20)
        assert len(transport.received) / 20 == pytest.approx(LEAST_BYTES_PER_S, rel=0.15)

    run(scene())


def test_a_muxer_runs_only_while_someone_listens_and_a_while_after(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage(AudioSettings(encoder_linger_s=2.0))
        stream = stage.start()
        await send(stream.track, packets[:50])
        assert stage.channels.counters.packets == 0
        listener, _ = stage.listen(stream, follows=False)
        other, _ = stage.listen()
        await send(stream.track, packets[50:100])
        assert stage.channels.counters.packets == 100
        stage.channels.leave(listener)
        stage.channels.leave(other)
        stage.channels.leave(other)
        assert stream.listeners == 0
        await asyncio.sleep(1.5)
        assert stage.channels.muxers == 2
        await asyncio.sleep(1)
        assert stage.channels.muxers == 0
        await send(stream.track, packets[100:150])
        assert stage.channels.counters.packets == 100
        assert all(handle.cancelled() or "_tick" not in repr(handle) for handle in _timers())

    run(scene())


def _timers() -> list[asyncio.TimerHandle]:
    handles: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return handles


def test_follow_0_ends_with_the_stream_that_it_waited_for(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        listener, transport = stage.listen(follows=False)
        await asyncio.sleep(1)
        stream = stage.start()
        assert stream.listeners == 1
        newer = stage.start("newer")
        await send(stream.track, packets[:100])
        assert (stream.listeners, newer.listeners) == (1, 0)
        stage.end(stream)
        await asyncio.sleep(0.2)
        assert listener.gone.done()
        assert heard(transport)[-1].flags == 4

    run(scene())


def test_listeners_hear_what_their_grant_covers(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        stage.listen(grant=KITCHEN_ALONE)
        stage.listen(follows=False, grant=KITCHEN_ALONE)
        stage.listen()
        hall = stage.start("hall")
        kitchen = stage.start("kitchen")
        assert (hall.listeners, kitchen.listeners) == (0, 3)
        stage.end(kitchen)
        assert hall.listeners == 1

    run(scene())


def test_one_that_does_not_read_in_silence_is_late_by_seconds_and_not_by_bytes() -> None:
    """Its limit is what two seconds have, whatever their bit rate."""

    async def scene() -> None:
        stage = Stage()
        listener, transport = stage.listen()
        await asyncio.sleep(5)
        transport.unsent_bytes = round(1.5 * LEAST_BYTES_PER_S)
        await asyncio.sleep(0.3)
        assert not listener.backlog.is_late
        transport.unsent_bytes = round(2.6 * LEAST_BYTES_PER_S)
        await asyncio.sleep(0.3)
        assert listener.backlog.is_late
        assert stage.channels.counters.brought_back == 1
        transport.unsent_bytes = 0
        await asyncio.sleep(0.3)
        assert not listener.backlog.is_late
        pages = read_pages(transport.received)[2:]
        behind = stage.channels.behind_s(listener, seconds_of(pages) - 0.08)
        assert behind == pytest.approx(0.05 + AudioSettings().ogg_page_ms / 1000, abs=0.2)
        transport.unsent_bytes = 10**6
        await asyncio.sleep(6)
        assert transport.is_closing()

    run(scene())


def test_a_process_that_stood_still_sends_no_past(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        stage = Stage()
        _, transport = stage.listen()
        await asyncio.sleep(1)
        before = seconds_of(heard(transport))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.call_soon(loop.pass_time, 3600.0)
        await asyncio.sleep(1)
        assert seconds_of(heard(transport)) - before < 2.2

    run(scene())


def test_long_silence_ends_where_it_is_set() -> None:
    async def scene() -> None:
        stage = Stage(AudioSettings(max_silence_s=5.0))
        first, _ = stage.listen()
        await asyncio.sleep(3)
        second, _ = stage.listen()
        await asyncio.sleep(2.5)
        assert (first.gone.done(), second.gone.done()) == (True, False)
        stage.channels.leave(first)
        await asyncio.sleep(3)
        assert second.gone.done()

    run(scene())


def test_what_fails_in_one_channel_does_not_end_the_others(
    packets: list[OpusPacket], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        stage = Stage()
        kitchen, hall = stage.start("kitchen"), stage.start("hall")
        stage.listen(kitchen, follows=False)
        _, transport = stage.listen(hall, follows=False)
        broken = stage.channels._channels[0]
        monkeypatch.setattr(broken, "take", lambda: 1 / 0)
        await send(hall.track, packets[:100])
        assert seconds_of(heard(transport)) > 2
        assert "ogg-channel" in stage.failures.problems

    run(scene())


def test_close_lets_everybody_go() -> None:
    async def scene() -> None:
        stage = Stage()
        stream = stage.start()
        listeners = [stage.listen(stream, follows=False)[0], stage.listen()[0]]
        stage.channels.close()
        assert all(listener.gone.done() for listener in listeners)
        assert stream.listeners == 0
        assert stage.channels.muxers == 0

    run(scene())
