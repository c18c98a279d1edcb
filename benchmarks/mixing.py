"""What mixing costs, and what it does to clocks that differ: see benchmarks/README.md.

    python benchmarks/mixing.py               CPU of decoding three voices, of a mix of them, of each further mix
    python benchmarks/mixing.py --hours 1     two clocks that are 300 ppm apart, in virtual time: some minutes

It measures and prints; it never judges. All in one process and in virtual time: caches are warmer than in a server.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np

from tests.support.virtual_time import run
from tests.support.voices import Ear, Voice, level_of
from voice_streaming.media.pcm import PcmBlock
from voice_streaming.streams.mixing import Mixes
from voice_streaming.streams.relay import VoiceRelay

_TONES_HZ = (500, 900, 1300)
_SECONDS = 60.0
_FURTHER_MIXES = 3
_WINDOW_S = 60.0


class _Deaf:
    """Has a voice decoded, and does nothing with it."""

    def on_pcm(self, block: PcmBlock) -> None:
        """What it costs is the decoder's."""

    def on_end(self) -> None:
        """The same."""


async def _cpu_s(mixes: int) -> float:
    """Of so many mixes of three voices, with all that they need; of 0, the voices' packets and decoders alone."""
    relay = VoiceRelay()
    voices = [Voice(frequency) for frequency in _TONES_HZ]
    tracks = [voice.track for voice in voices]
    sources = [relay.pcm(track) for track in tracks]
    for source in sources:
        source.attach(_Deaf())
    engine = Mixes(relay)
    wanted = [frozenset(tracks), *(frozenset(tracks) - {track} for track in tracks)][:mixes]
    for one in wanted:
        Ear(engine.take(one).track)
    await asyncio.gather(*(voice.talk(1) for voice in voices))
    begun_s = time.process_time()
    await asyncio.gather(*(voice.talk(_SECONDS) for voice in voices))
    return (time.process_time() - begun_s) / _SECONDS


async def _delay_ms() -> list[float]:
    engine = Mixes(VoiceRelay())
    voices = [Voice(frequency) for frequency in _TONES_HZ]
    engine.take(frozenset(voice.track for voice in voices))
    await asyncio.gather(*(voice.talk(10) for voice in voices))
    return [1e3 * engine.delay_s(voice.track) for voice in voices]


async def _drift(hours: float) -> None:
    engine = Mixes(VoiceRelay(), even_loudness=False)
    fast, slow = Voice(500, drift_ppm=150), Voice(900, drift_ppm=-150)
    ear = Ear(engine.take(frozenset({fast.track, slow.track})).track)
    talking = [asyncio.create_task(voice.talk(3600 * hours)) for voice in (fast, slow)]
    worst = 1.0
    for _ in range(int(3600 * hours / _WINDOW_S) - 1):
        await asyncio.sleep(_WINDOW_S)
        samples = ear.samples()[48_000:]
        ear.packets.clear()
        worst = min([worst, *(level_of(samples, voice.frequency_hz) / 0.1 for voice in (fast, slow))])
    await asyncio.gather(*talking)
    delays = [f"{1e3 * engine.delay_s(voice.track):.0f}" for voice in (fast, slow)]
    print(f"{hours:g} h with clocks 300 ppm apart: {engine.counters.late_blocks} blocks too late, delays at the end")
    print(f"  {' and '.join(delays)} ms, the quietest minute of a voice at {100 * worst:.0f} % of its level")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=0.0)
    options = parser.parse_args()
    print(machine.describe())
    rounds = np.array([[run(_cpu_s(count)) for count in (0, 1, 1 + _FURTHER_MIXES)] for _ in range(3)])
    decoding, one, more = 100 * np.median(rounds, axis=0)
    print(f"three voices decoded: {decoding:.2f} % of a core; a mix of them: {one - decoding:.2f} % more")
    print(f"each further mix: {(more - one) / _FURTHER_MIXES:.2f} %")
    print(f"delay of mixing: {', '.join(f'{delay:.0f}' for delay in run(_delay_ms()))} ms")
    if options.hours:
        run(_drift(options.hours))
    return 0


if __name__ == "__main__":
    sys.exit(main())
