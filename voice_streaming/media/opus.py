"""An Opus packet on a stream's timeline, and its decoder."""

from __future__ import annotations

from typing import NamedTuple

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

CLOCK_RATE_HZ = 48_000
"""The RTP clock of Opus, whatever the coded bandwidth (RFC 7587 section 4.1)."""

CHANNELS = 2
"""Channels of decoded samples. Opus may change between mono and stereo at any packet; mono decodes to two equal."""

Samples = NDArray[np.int16]
"""Decoded audio: shape (samples, CHANNELS) at CLOCK_RATE_HZ. Shared between consumers, so never written to."""


class OpusPacket(NamedTuple):
    """One Opus packet (RFC 6716) as it came from the sender, placed on its stream's timeline.

    `sequence` and `timestamp` are unwrapped: they grow without bound, keep the source's gaps and pauses, and continue
    when the sender's SSRC changes. A packet that arrives late keeps its own, smaller numbers.
    """

    payload: bytes
    """Never empty: FFmpeg takes an empty packet for the end of the stream (avcodec_send_packet)."""
    sequence: int
    timestamp: int
    """In ticks of CLOCK_RATE_HZ."""
    marker: bool
    """First packet of a talkspurt (RFC 3551 section 4.1)."""
    arrived_s: float
    """Monotonic seconds (the event loop's clock) at which the datagram was read."""


class BrokenPacket(Exception):
    """A payload that is no Opus packet; the decoder can be used on, as after a lost packet."""


class OpusDecoder:
    """libopus, which is stateful: call `decode` for a stream's packets in order, and `conceal` for missing ones."""

    def __init__(self) -> None:
        codec = av.CodecContext.create("libopus", "r")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate = CLOCK_RATE_HZ
        codec.layout = "stereo"
        self._codec = codec
        self._toc: int | None = None

    def decode(self, payload: bytes) -> Samples:
        """The packet's samples; raises BrokenPacket."""
        samples = self._decode(payload)
        self._toc = payload[0]
        return samples

    def conceal(self) -> Samples:
        """libopus' own concealment of one lost frame, as long as the last packet's frames. Needs a packet before it.

        A packet of only a TOC byte contains one frame of no bytes, which means that it was not transmitted (RFC 6716
        section 3.2.1): the decoder conceals it like a lost one. The sound decays over some hundred milliseconds.
        """
        assert self._toc is not None
        return self._decode(bytes([self._toc & 0b11111100]))

    def _decode(self, payload: bytes) -> Samples:
        try:
            frames = self._codec.decode(av.Packet(payload))
        except av.FFmpegError as error:
            raise BrokenPacket(str(error)) from error
        if not frames:
            raise BrokenPacket("the decoder gave no samples")
        return _interleaved(frames[0]) if len(frames) == 1 else np.concatenate([_interleaved(f) for f in frames])


def _interleaved(frame: AudioFrame) -> Samples:
    # s16 is what FFmpeg's libopus wrapper gives unless asked otherwise: one plane, channels interleaved, which
    # to_ndarray would copy twice.
    samples: Samples = np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples * CHANNELS)
    return samples.reshape(-1, CHANNELS)
