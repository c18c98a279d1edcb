"""Who is given which channel, from when on and for how long; in virtual time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.listening.distribution import (
    BURST_S,
    CHUNK_S,
    FRAME_S,
    Distribution,
    at_48_khz,
    largest_step,
    offsets_s,
)
from tests.support.audio import Samples, level_dbfs
from tests.support.matching import match
from tests.support.radio import RecordingTransport, decode_mp3, mp3_frames, send
from tests.support.virtual_time import run
from voice_streaming.listening.icy import IcyInterleaver
from voice_streaming.listening.listeners import Listener
from voice_streaming.media.opus import OpusPacket
from voice_streaming.settings.model import AudioSettings


def test_every_listener_gets_the_same_object(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        distribution = Distribution()
        stream = distribution.start()
        transports = [distribution.listen(stream)[1] for _ in range(120)]
        await send(stream.track, packets[:50])
        assert distribution.channels.encoders == 1
        last = {id(transport.writes[-1][1]) for transport in transports}
        assert len(last) == 1
        distribution.channels.close()

    run(scene())


def test_the_encoder_runs_only_while_someone_listens_and_a_while_after(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(encoder_linger_s=2.0))
        stream = distribution.start()
        await send(stream.track, packets[:50])
        assert distribution.channels.encoders == 0
        assert distribution.relay.pcm_counters.decoded_packets == 0
        listener, _ = distribution.listen(stream)
        await send(stream.track, packets[50:100])
        await asyncio.sleep(0.2)
        assert distribution.relay.pcm_counters.decoded_packets == 50
        distribution.channels.leave(listener)
        await asyncio.sleep(1.5)
        assert distribution.channels.encoders == 1
        await asyncio.sleep(1)
        assert distribution.channels.encoders == 0
        await send(stream.track, packets[100:150])
        assert distribution.relay.pcm_counters.decoded_packets == 50

    run(scene())


def test_latest_is_a_radio(packets: list[OpusPacket], reference: Samples) -> None:
    """Silence, a stream, silence, another stream that a newer one interrupts: on one connection, frame by frame."""

    async def scene() -> tuple[Samples, float]:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        begun_s = loop.time()
        _, transport = distribution.listen(None)
        await asyncio.sleep(1.03)
        for seconds in (2.0, 3.0):
            stream = distribution.start()
            await send(stream.track, packets)
            assert stream.listeners == 1
            distribution.end(stream)
            await asyncio.sleep(seconds)
        older = distribution.start("older")
        speaking = asyncio.create_task(send(older.track, packets))
        await asyncio.sleep(3)
        newer = distribution.start("newer")
        assert (older.listeners, newer.listeners) == (0, 1)
        await send(newer.track, packets)
        await speaking
        distribution.end(newer)
        await asyncio.sleep(1)
        assert older.listeners == 1, "the older stream is the newest again"
        frames = mp3_frames(transport.received)
        assert 0 <= loop.time() - begun_s + BURST_S - len(frames) * FRAME_S < CHUNK_S + FRAME_S
        return at_48_khz(decode_mp3(frames)), loop.time() - begun_s

    samples, _ = run(scene())
    length_s = reference.size / 48_000
    for begin_s, said_s in ((1.0, length_s), (3.0 + length_s, length_s), (6.0 + 2 * length_s, 2.8)):
        part = samples[int((begin_s + 0.3) * 48_000) : int((begin_s + said_s + 0.9) * 48_000)]
        found = match(reference, part)
        assert found.score > 0.97
        assert found.duration_s == pytest.approx(said_s, abs=0.35)
    assert match(reference, samples[int((9.6 + 2 * length_s) * 48_000) :]).score > 0.95
    assert level_dbfs(samples[: int(1.5 * 48_000)]) == -np.inf
    assert largest_step(samples) <= 1.1 * largest_step(reference)


def test_one_who_does_not_follow_hears_the_end_and_is_let_go(packets: list[OpusPacket], reference: Samples) -> None:
    async def scene() -> Samples:
        distribution = Distribution()
        listener, transport = distribution.listen(None, follows=False)
        await asyncio.sleep(1)
        stream = distribution.start()
        await send(stream.track, packets)
        distribution.end(stream)
        async with asyncio.timeout(1):
            await listener.gone
        return at_48_khz(decode_mp3(mp3_frames(transport.received)))

    found = match(reference, run(scene()))
    assert found.score > 0.99
    assert found.duration_s == pytest.approx(reference.size / 48_000, abs=0.03)


def test_a_newcomer_is_as_far_behind_as_the_first(packets: list[OpusPacket], reference: Samples) -> None:
    async def scene() -> list[tuple[float, Samples]]:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        stream = distribution.start()
        begun_s = loop.time()
        speaking = asyncio.create_task(send(stream.track, packets))
        heard = []
        for _ in range(8):
            await asyncio.sleep(0.613)
            heard.append((loop.time() - begun_s, distribution.listen(stream)[1]))
        await speaking
        distribution.channels.close()
        return [(joined_s, at_48_khz(decode_mp3(mp3_frames(one.received)))) for joined_s, one in heard]

    for joined_s, samples in run(scene()):
        delays = [joined_s + offset for offset in offsets_s(reference, samples, at_least=0.95)]
        assert delays
        # A packet's first sample is 20 ms old when it comes.
        assert max(delays) + 0.02 < 0.7
        assert min(delays) > 0.5


def test_silence_can_be_limited() -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(max_silence_s=5.0))
        transport = RecordingTransport()
        listener = Listener(transport, follows=True, chunked=True, icy=None)
        distribution.channels.join(listener, None)
        await asyncio.sleep(4.8)
        assert not listener.gone.done()
        await asyncio.sleep(0.5)
        assert listener.gone.done()
        assert transport.received.endswith(b"\r\n0\r\n\r\n"), "nothing follows the last chunk"

    run(scene())


def test_who_left_a_silence_is_forgotten() -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(max_silence_s=5.0))
        left, _ = distribution.listen(None)
        stays, _ = distribution.listen(None)
        distribution.channels.leave(left)
        async with asyncio.timeout(6):
            await stays.gone
        assert not left.gone.done()

    run(scene())


def test_a_chunk_as_long_as_the_longest_hold_up_is_written_whole() -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(chunk_ms=1000))
        _, transport = distribution.listen(None)
        await asyncio.sleep(1.5)
        # The chunk that is due in half a second will be late by 0.1 s.
        asyncio.get_running_loop()._jumping.now_s += 0.6  # type: ignore[attr-defined]
        await asyncio.sleep(1.5)
        # Three chunks, that tenth, and the burst.
        assert len(mp3_frames(transport.received)) * FRAME_S > 3.05 + BURST_S - FRAME_S

    run(scene())


def test_icy_listeners_get_the_same_audio(packets: list[OpusPacket]) -> None:
    async def scene() -> tuple[bytes, bytes]:
        distribution = Distribution()
        stream = distribution.start()
        _, plain = distribution.listen(stream)
        transport = RecordingTransport()
        distribution.channels.join(Listener(transport, follows=True, chunked=False, icy=IcyInterleaver()), stream)
        await send(stream.track, packets)
        distribution.channels.close()
        return plain.received, transport.received

    plain, interleaved = run(scene())
    audio, position = b"", 0
    while position + 16_000 < len(interleaved):
        audio += interleaved[position : position + 16_000]
        position += 16_000 + 1 + interleaved[position + 16_000] * 16
    audio += interleaved[position:]
    assert audio == plain


def test_listeners_are_counted_for_good_and_those_who_are_there() -> None:
    async def scene() -> None:
        distribution = Distribution()
        channels = distribution.channels
        first, _ = distribution.listen(None)
        distribution.listen(None)
        assert (channels.counters.listeners_total, channels.listeners) == (2, 2)
        channels.leave(first)
        channels.leave(first)
        assert (channels.counters.listeners_total, channels.listeners) == (2, 1)

    run(scene())
