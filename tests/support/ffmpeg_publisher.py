"""FFmpeg's `whip` muxer, through PyAV 19 or newer: `python ffmpeg_publisher.py URL TOKEN TONE_HZ [FLAGS]`.

For a Python of its own. SIGTERM ends the session.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

import av

url, token, tone_hz, *flags = sys.argv[1:]
ending = False


def end(_signal: int, _frame: FrameType | None) -> None:
    global ending
    ending = True


signal.signal(signal.SIGTERM, end)
av.logging.set_level(av.logging.VERBOSE)
options = {"authorization": token} | ({"whip_flags": flags[0]} if flags else {})
print(f"FFmpeg {'.'.join(str(part) for part in av.library_versions['libavformat'])}", flush=True)  # noqa: T201
with (
    av.open(f"sine=frequency={tone_hz}:sample_rate=48000", format="lavfi") as source,
    av.open(url, "w", format="whip", options=options) as target,
):
    stream = target.add_stream("libopus", rate=48000, layout="stereo")
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=48000, frame_size=960)
    begun_s, sent = time.monotonic(), 0
    for frame in source.decode(audio=0):
        for piece in resampler.resample(frame):
            target.mux(stream.encode(piece))
            sent += piece.samples
            time.sleep(max(0.0, begun_s + sent / 48000 - time.monotonic()))
        if ending:
            break
