"""Run by a test: fifty processes that write recordings, each killed at a random time. Prints, for each, the name of its
folder and how many ticks it had written by its own word."""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.opus_line import OpusLineCounters
from voice_streaming.recording.folder import UnfinishedFile
from voice_streaming.recording.live import LiveRecording
from voice_streaming.streams.stream import Stream
from voice_streaming.streams.track import OpusTrack

COUNT = 50
MOST_RUN_S = 0.05
REPORT = struct.Struct("<Q")


def write(folder: Path, report: int) -> None:
    """As the recorder does, but as fast as it gets; after each write it says how much there is."""
    stream = Stream("kitchen", "Kitchen", OpusTrack(), "sender")
    live = LiveRecording(stream, "2026-11-25T14-03-22Z kitchen.opus", 0.0, datetime.now(UTC), OpusLineCounters())
    file = UnfinishedFile(folder, live.file_name)
    file.open()
    for number in range(10**6):
        live.push(OpusPacket(b"\x48" + bytes(60), number, number * 960, False, (number + 1) * 0.02))
        if number % 25 == 24:
            file.write(live.take((number + 1) * 0.02))
            os.write(report, REPORT.pack((number + 1) * 960))


def main() -> None:
    chance = random.Random(11)
    for number in range(COUNT):
        folder = Path(sys.argv[1]) / str(number)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            write(folder, write_end)
            os._exit(0)
        os.close(write_end)
        told = os.read(read_end, REPORT.size)
        time.sleep(chance.random() * MOST_RUN_S)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(read_end, 65536):
            told += more
        os.close(read_end)
        whole = len(told) // REPORT.size * REPORT.size
        sys.stdout.write(f"{number} {REPORT.unpack(told[whole - REPORT.size : whole])[0]}\n")


if __name__ == "__main__":
    main()
