from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.support.publishing import Recorder
from tests.support.virtual_time import run
from voice_streaming.media.opus import OpusPacket
from voice_streaming.process.refusal import Refused
from voice_streaming.streams.demo import DemoSender
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack


async def speak(demo: DemoSender, seconds: float) -> None:
    speaking = asyncio.create_task(demo.run())
    await asyncio.sleep(seconds)
    speaking.cancel()
    await asyncio.wait([speaking])


def test_the_sample_is_said_over_and_over_in_real_time_and_goes_on_when_it_is_started_again() -> None:
    async def scene() -> list[OpusPacket]:
        track, sink = OpusTrack(), Recorder()
        VoiceRelay().attach(track, sink)
        demo = DemoSender(track)
        await speak(demo, 120)
        await speak(demo, 1)
        return sink.packets

    packets = run(scene())
    assert len(packets) == pytest.approx(121 * 50, abs=5)
    assert {after.sequence - before.sequence for before, after in pairwise(packets)} == {1}
    assert min(after.timestamp - before.timestamp for before, after in pairwise(packets)) > 0
    assert packets[-1].timestamp - packets[0].timestamp == pytest.approx(121 * 48_000, abs=2 * 960)


def test_nobody_else_can_publish_on_its_track() -> None:
    async def scene() -> None:
        track = OpusTrack()
        DemoSender(track)
        with pytest.raises(Refused):
            track.take_source()

    run(scene())
