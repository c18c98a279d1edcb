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


_FRAME_TICKS = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
"""A frame's duration by the configuration in the TOC byte (RFC 6716 table 2): SILK, hybrid, CELT."""

MOST_PACKET_TICKS = 120 * CLOCK_RATE_HZ // 1000
"""RFC 6716 section 3.2.5, R5."""

_MOST_FRAME_BYTES = 1275
"""RFC 6716 section 3.2.1."""


def frame_ticks(payload: bytes) -> int:
    """The duration of each of the packet's frames."""
    return _FRAME_TICKS[payload[0] >> 3]


def packet_ticks(payload: bytes) -> int | None:
    """The packet's duration, or None for one that is malformed (RFC 6716 section 3.4)."""
    ticks, code = _FRAME_TICKS[payload[0] >> 3], payload[0] & 3
    if code == 0:
        return ticks if len(payload) <= 1 + _MOST_FRAME_BYTES else None
    if code == 1:
        is_whole = len(payload) % 2 == 1 and len(payload) <= 1 + 2 * _MOST_FRAME_BYTES
        return 2 * ticks if is_whole else None
    if code == 2:
        rest = _after_frame(payload, 1)
        return 2 * ticks if rest is not None and 0 <= len(payload) - rest <= _MOST_FRAME_BYTES else None
    count = payload[1] & 0x3F if len(payload) > 1 else 0
    is_whole = count > 0 and count * ticks <= MOST_PACKET_TICKS and _holds_frames(payload, count)
    return count * ticks if is_whole else None


def _after_frame(payload: bytes, at: int) -> int | None:
    """Where a frame ends that follows its length at `at` (RFC 6716 section 3.2.1); None where that is cut off."""
    if at >= len(payload):
        return None
    if payload[at] < 252:
        return at + 1 + payload[at]
    if at + 1 >= len(payload):
        return None
    return at + 2 + payload[at] + 4 * payload[at + 1]


def _holds_frames(payload: bytes, count: int) -> bool:
    """Whether a packet of code 3 has room for so many frames (RFC 6716 section 3.2.5)."""
    at, end = 2, len(payload)
    if payload[1] & 0x40:
        padding = 255
        while padding == 255:
            if at >= len(payload):
                return False
            padding = payload[at]
            at += 1
            end -= min(padding, 254)
    if not payload[1] & 0x80:
        return 0 <= end - at <= count * _MOST_FRAME_BYTES and (end - at) % count == 0
    frames = 0
    for _ in range(count - 1):
        after = _after_frame(payload[:end], at)
        if after is None:
            return False
        length_bytes = 1 if payload[at] < 252 else 2
        frames += after - at - length_bytes
        at += length_bytes
    return 0 <= end - at - frames <= _MOST_FRAME_BYTES


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
