"""The live MP3 in virtual time: the whole way from Opus packets to each listener's bytes, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from tests.support.audio import Samples
from tests.support.matching import match
from tests.support.radio import RecordingTransport
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.listeners import Listener
from voice_streaming.process.failures import Failures
from voice_streaming.settings.model import AudioSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState
from voice_streaming.streams.track import OpusTrack

FRAME_S = 1152 / 44_100
BURST_S = 0.5
CHUNK_S = round(AudioSettings().chunk_ms / 1000 / FRAME_S) * FRAME_S


class Distribution:
    """A Channels with its registry."""

    def __init__(self, settings: AudioSettings | None = None) -> None:
        self.relay = VoiceRelay()
        self.streams: dict[str, Stream] = {}
        self.failures = Failures()
        self.channels = Channels(settings or AudioSettings(), self.relay, self.streams, self.failures)

    def start(self, stream_id: str = "kitchen") -> Stream:
        stream = Stream(stream_id, stream_id, OpusTrack(), "sender")
        stream.advance(StreamState.ACTIVE)
        # Real time does not pass here, and so does not tell which stream is the newest.
        stream.started_s = asyncio.get_running_loop().time()
        self.streams[stream_id] = stream
        self.channels.on_stream_live(stream)
        return stream

    def end(self, stream: Stream) -> None:
        stream.advance(StreamState.ENDED)
        stream.track.stop()
        del self.streams[stream.id]

    def listen(self, stream: Stream | None, *, follows: bool = True) -> tuple[Listener, RecordingTransport]:
        transport = RecordingTransport()
        listener = Listener(transport, follows=follows, chunked=False, icy=None)
        self.channels.join(listener, stream)
        return listener, transport


def at_48_khz(samples: Samples) -> Samples:
    frame = AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
    frame.sample_rate = 44_100
    resampler = AudioResampler("fltp", "mono", 48_000)
    return np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])


def offsets_s(reference: Samples, heard: Samples, *, at_least: float = 0.8) -> list[float]:
    """How far behind the reference each second is, where it is clearly found."""
    return [w.start_s - w.reference_s for w in match(reference, heard).windows if w.score > at_least]


def largest_step(samples: Samples) -> float:
    return float(np.abs(np.diff(samples)).max())


async def play_on(distribution: Distribution, transports: Sequence[RecordingTransport], seconds: float) -> list[float]:
    """How many seconds of MP3 each gets in that time."""
    before = [len(transport.received) for transport in transports]
    await asyncio.sleep(seconds)
    bytes_per_s = AudioSettings().bitrate_bps / 8
    return [
        (len(transport.received) - count) / bytes_per_s for transport, count in zip(transports, before, strict=True)
    ]
