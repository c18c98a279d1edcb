"""What a visualised stream costs: microseconds of one core per second of audio, from PCM to the subscriber's text.

    python -m benchmarks.visualization [--seconds 60] [--subscribers 10]

Decoding is not in it: it is shared with the MP3 encoder.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import NamedTuple

import numpy as np

from voice_streaming.media.levels import Samples
from voice_streaming.media.opus import CLOCK_RATE_HZ
from voice_streaming.signalling.meters import Meter

BLOCK_SAMPLES = CLOCK_RATE_HZ // 50
"""20 ms, as browsers send."""


class Block(NamedTuple):
    samples: Samples


class NoSource:
    """Stands for the decoder: the benchmark hands the blocks over itself."""

    def attach(self, sink: Meter) -> None: ...
    def detach(self, sink: Meter) -> None: ...


async def microseconds_per_second(channels_alike: bool, seconds: int, subscribers: int) -> float:
    """CPU time of this process while it analyses that much noise, in two channels."""
    noise = np.random.default_rng(1).normal(0, 3000, (CLOCK_RATE_HZ, 2)).astype(np.int16)
    if channels_alike:
        noise[:, 1] = noise[:, 0]
    blocks = [Block(noise[at : at + BLOCK_SAMPLES]) for at in range(0, CLOCK_RATE_HZ, BLOCK_SAMPLES)]
    texts: list[str] = []
    broadcast = Meter("benchmark", NoSource())
    for _ in range(subscribers):
        # A function of its own each, as two that are equal are one subscriber.
        broadcast.subscribe(lambda text: texts.append(text))
    begun = time.process_time()
    for _ in range(seconds):
        for block in blocks:
            broadcast.on_pcm(block)
    spent_s = time.process_time() - begun
    broadcast.on_end()
    expected = (seconds * 10 + 1) * subscribers
    if len(texts) != expected:
        raise RuntimeError(f"{len(texts)} messages came, {expected} were expected")
    return spent_s / seconds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="seconds of audio")
    parser.add_argument("--subscribers", type=int, default=10)
    options = parser.parse_args()
    for name, alike in (("one voice in two channels alike", True), ("two different channels", False)):
        cost_us = asyncio.run(microseconds_per_second(alike, options.seconds, options.subscribers))
        print(f"{name}: {cost_us:.0f} us per second of audio, {cost_us / 1e4:.2f} % of a core")


if __name__ == "__main__":
    main()
