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
"""Channels of decoded samples: Opus may change between mono and stereo at any packet, and mono decodes to two alike."""

Samples = NDArray[np.int16]
"""Decoded audio: shape (samples, CHANNELS) at CLOCK_RATE_HZ. Shared between consumers, so never written to."""


class OpusPacket(NamedTuple):
    """One Opus packet (RFC 6716) as it came from the sender, placed on its stream's timeline.

    `sequence` and `timestamp` are unwrapped: they grow without bound, keep the source's holes and pauses, and go on
    across a change of the sender's SSRC. A packet that arrives late has the smaller numbers that are its own.
    """

    payload: bytes
    """Never empty: an empty payload is dropped at the tap, as it would poison a decoder."""
    sequence: int
    timestamp: int
    """In ticks of CLOCK_RATE_HZ."""
    marker: bool
    """First packet of a talkspurt (RFC 3551 section 4.1)."""
    arrived_s: float
    """Monotonic seconds (the event loop's clock) at which the datagram was read."""


class BrokenPacket(Exception):
    """A payload that is no Opus packet; the decoder goes on as if it had been lost."""


class OpusDecoder:
    """libopus, which is stateful: give it a stream's packets in order, and `conceal` for those that are missing."""

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
        """libopus' own concealment of one lost frame, as long as the last packet's frames; needs a packet before it.

        A packet of a TOC byte alone holds one frame of no bytes, which stands for a frame that was not transmitted
        (RFC 6716 section 3.2.1), so that the decoder fills in what it would for a lost one. It dies away by itself
        over some hundred milliseconds.
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
