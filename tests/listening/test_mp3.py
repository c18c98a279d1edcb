"""One stream's frames against real time, in virtual time; and silence, which is encoded once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.audio import Samples, encode_opus, level_dbfs
from tests.support.radio import decode_mp3, mp3_frames, packets_of, send
from tests.support.virtual_time import run
from voice_streaming.listening.mp3 import SETTLED_FRAMES, EncodingContext, Programme, SilentFrames
from voice_streaming.media.opus import CHANNELS, CLOCK_RATE_HZ, OpusPacket
from voice_streaming.settings.model import AudioSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack


@pytest.fixture(scope="module")
def packets(speech: Samples) -> list[OpusPacket]:
    return packets_of(encode_opus(speech))[:150]


class Studio:
    """A programme of a track that has no listener but the test."""

    def __init__(self, settings: AudioSettings | None = None) -> None:
        self.context = EncodingContext(settings or AudioSettings(), asyncio.get_running_loop().time)
        self.relay, self.track = VoiceRelay(), OpusTrack()
        self.programme = Programme(self.context, self.relay, self.track, 0)

    def frames_due(self) -> int:
        return int(self.context.clock.now())


def test_silence_is_what_the_encoder_gives_once_it_has_settled() -> None:
    mp3 = EncodingContext(AudioSettings(), lambda: 0.0).mp3
    encoded = mp3.encoder().encode(np.zeros((3 * CLOCK_RATE_HZ, CHANNELS), np.int16))
    silent = SilentFrames(mp3)
    taken = silent.take(20) + silent.take(29) + silent.take(11)
    assert taken == encoded[SETTLED_FRAMES : SETTLED_FRAMES + 60]


def test_silence_has_no_frame_too_long_or_too_short() -> None:
    """At 44,100 Hz, 128 kbit/s are 417.96 bytes a frame: padding makes up for it."""
    silent = SilentFrames(EncodingContext(AudioSettings(), lambda: 0.0).mp3)
    assert sum(map(len, silent.take(49 * 10))) == 128_000 * 1152 * 490 // (8 * 44_100)


def test_a_programme_gives_a_frame_for_each_that_is_due(packets: Sequence[OpusPacket]) -> None:
    async def scene() -> None:
        studio = Studio()
        sending = asyncio.create_task(send(studio.track, packets))
        taken = 0
        for _ in range(20):
            await asyncio.sleep(0.18)
            wanted = studio.frames_due() - taken
            frames = studio.programme.take(wanted)
            assert len(frames) == wanted
            assert len(mp3_frames(b"".join(frames))) == wanted
            taken += wanted
        await sending

    run(scene())


def test_only_what_is_wanted_is_encoded(packets: Sequence[OpusPacket]) -> None:
    """One frame was there at the start, as LAME is one behind."""

    async def scene() -> None:
        studio = Studio()
        assert not studio.programme.prepare(1)
        assert studio.context.counters.encoded_audio_s == 0
        assert studio.programme.prepare(2)
        frames = studio.programme.take(40)
        assert len(frames) == 40
        assert not studio.programme.prepare(0)

    run(scene())


def test_a_stream_that_ends_is_heard_to_its_end_and_then_over(packets: Sequence[OpusPacket]) -> None:
    async def scene() -> tuple[Samples, bool]:
        studio = Studio()
        await send(studio.track, packets)
        studio.track.stop()
        await asyncio.sleep(0.5)
        was_over = studio.programme.is_over
        frames: list[bytes] = []
        while not studio.programme.is_over:
            frames += studio.programme.take(1)
        assert not studio.programme.prepare(10)
        assert studio.programme.take(3) != []
        return decode_mp3(frames), was_over

    samples, was_over = run(scene())
    assert not was_over, "what was said has not been taken yet"
    spoken_s = len(packets) * 0.02
    assert spoken_s < len(samples) / 44_100 < spoken_s + 0.3
    # All of it has left the encoder: its last samples are silent, and those before are not.
    assert level_dbfs(samples[-200:]) < -60
    assert level_dbfs(samples[: int(spoken_s * 44_100)]) > -40


def test_a_programme_that_stops_lets_go_of_the_stream(packets: Sequence[OpusPacket]) -> None:
    async def scene() -> None:
        studio = Studio()
        await send(studio.track, packets[:5])
        studio.programme.take(5)
        decoded = studio.relay.pcm_counters.decoded_packets
        assert decoded > 0
        studio.programme.stop()
        # As many as would be decoded even for one that pulls.
        await send(studio.track, packets[5:])
        await asyncio.sleep(1)
        assert studio.relay.pcm_counters.decoded_packets == decoded

    run(scene())
