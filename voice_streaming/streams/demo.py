"""A spoken sample as a live stream, to try the server without a microphone."""

from __future__ import annotations

import asyncio
import random
from importlib import resources

import av

from ..media.opus import CLOCK_RATE_HZ
from .track import OpusTrack

DEMO_STREAM_ID = "demo"
_SAMPLE = "demo.ogg"


class DemoSender:
    """Publishes the sample on a track, over and over, in real time. It has the track's source exclusively."""

    def __init__(self, track: OpusTrack) -> None:
        self._source = track.take_source(exclusive=True)
        self._packets = _read_sample()

    async def run(self) -> None:
        """Publishes until cancelled."""
        loop = asyncio.get_running_loop()
        sequence = timestamp = 0
        # Nobody sees it, as the track's timeline is its own; a new one says that the numbers start anew.
        ssrc = random.randrange(1 << 32)
        start_s = loop.time()
        while True:
            for payload, duration in self._packets:
                self._source.publish(
                    ssrc, sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, sequence == 0, payload, loop.time()
                )
                sequence += 1
                timestamp += duration
                await asyncio.sleep(max(0.0, start_s + timestamp / CLOCK_RATE_HZ - loop.time()))


def _read_sample() -> list[tuple[bytes, int]]:
    """The sample's Opus packets, each with its duration in ticks of the RTP clock."""
    path = resources.files(__package__).joinpath(_SAMPLE)
    with resources.as_file(path) as file, av.open(str(file)) as container:
        stream = container.streams.audio[0]
        ticks = stream.time_base * CLOCK_RATE_HZ if stream.time_base else 1
        return [
            (bytes(packet), round((packet.duration or 0) * ticks)) for packet in container.demux(stream) if packet.size
        ]
