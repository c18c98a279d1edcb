"""How late players of the MP3 are, as they come and with the options that DOCS.md recommends.

    python benchmarks/players.py [--starts 5] [--players mpv vlc ffplay]

A stream has a tone every six seconds. Each player plays it on a sound server of its own, whose loudspeakers are
recorded: the delay is from the tone's departure at the sender to the loudspeaker. How late a player is depends on how
long it took to start, so each is started several times. Everything is on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from shutil import which

import numpy as np
from machine import describe

from tests.support.audio import SAMPLE_RATE_HZ, Samples, encode_opus, write_wav
from tests.support.live_radio import Radio, radio_with
from tests.support.process import child_process
from tests.support.sound_server import sound_server

PERIOD_S = 6
"""Longer than any of these players is late."""
TONE_S = 0.3
CHUNK_S = 0.02
ONSET_LEVEL = 0.05
STARTING_S = 8
"""Of a player, which is not what is measured."""
LISTENING_S = 1.1 * PERIOD_S

COMMANDS: dict[str, Sequence[str]] = {
    "mpv": ("mpv", "--no-config", "--no-video", "--ao=pulse"),
    "vlc": ("cvlc", "--no-video", "--no-interact", "--no-metadata-network-access", "--aout=pulse"),
    "ffplay": ("ffplay", "-nodisp", "-loglevel", "error"),
}
OPTIONS: dict[str, Sequence[Sequence[str]]] = {
    "mpv": ((), ("--profile=low-latency",), ("--cache=no",), ("--profile=low-latency", "--cache=no")),
    "vlc": ((), ("--network-caching=300",)),
    "ffplay": ((), ("-fflags", "nobuffer"), ("-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0")),
}


def voice() -> list[bytes]:
    """A period of it, which begins with the tone."""
    samples: Samples = np.zeros(PERIOD_S * SAMPLE_RATE_HZ, np.float32)
    time_s = np.arange(round(TONE_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples[: time_s.size] = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    return encode_opus(samples)


async def onsets_s(environment: dict[str, str], seconds: float) -> list[float]:
    """When the loudspeakers begin to sound, by the event loop's clock."""
    recorder = await asyncio.create_subprocess_exec(
        *("parec", "--device=loudspeakers.monitor", "--format=float32le", "--channels=1", "--latency-msec=20"),
        f"--rate={SAMPLE_RATE_HZ}",
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    loop, found, quiet_since_s = asyncio.get_running_loop(), [], 0.0
    end_s = loop.time() + seconds
    assert recorder.stdout is not None
    try:
        while loop.time() < end_s:
            chunk = await recorder.stdout.readexactly(round(CHUNK_S * SAMPLE_RATE_HZ) * 4)
            if np.abs(np.frombuffer(chunk, np.float32)).max() > ONSET_LEVEL:
                if loop.time() - quiet_since_s > 1:
                    found.append(loop.time() - CHUNK_S)
                quiet_since_s = loop.time()
    finally:
        recorder.kill()
        await recorder.wait()
    return found


async def delays_s(radio: Radio, begun_s: float, player: str, options: Sequence[str]) -> list[float]:
    """Of each tone that the player plays, once it has started."""
    with tempfile.TemporaryDirectory() as directory:
        silence = Path(directory) / "silence.wav"
        _write_silence(silence)
        async with sound_server(silence) as environment:
            os.chmod(environment["HOME"], 0o777)  # VLC refuses to run as root, and needs the socket
            os.chmod(environment["PULSE_SERVER"].removeprefix("unix:"), 0o777)
            user = "nobody" if player == "vlc" and os.geteuid() == 0 else None
            url = f"http://127.0.0.1:{radio.port}/stream/kitchen.mp3"
            command: list[str | Path] = [*COMMANDS[player], *options, url]
            environment["SDL_AUDIODRIVER"] = "pulseaudio"
            async with child_process(command, environment=environment, user=user):
                await asyncio.sleep(STARTING_S)
                heard_s = await onsets_s(environment, LISTENING_S)
    return [(moment_s - begun_s) % PERIOD_S for moment_s in heard_s]


def _write_silence(path: Path) -> None:
    write_wav(path, np.zeros(SAMPLE_RATE_HZ, np.float32))


async def measure(players: Sequence[str], starts: int) -> None:
    async with radio_with(voice()) as radio:
        begun_s = asyncio.get_running_loop().time()
        radio.speak()
        for player in players:
            for options in OPTIONS[player]:
                delays = [late_s for _ in range(starts) for late_s in await delays_s(radio, begun_s, player, options)]
                late = f"{statistics.median(delays):.1f} | {min(delays):.1f} – {max(delays):.1f}"
                print(f"| {player} | `{' '.join(options) or '–'}` | {late} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5, help="of each player with each set of options")
    installed = [player for player, command in COMMANDS.items() if which(command[0])]
    parser.add_argument("--players", nargs="+", choices=installed, default=installed)
    options = parser.parse_args()
    print(
        f"{date.today()}. {describe()}\n\n| player | options | seconds late, median | least – most |\n|---|---|---|---|"
    )
    asyncio.run(measure(options.players, options.starts))


if __name__ == "__main__":
    main()
