"""Opus packets that carry their own time of departure, in two ways.

A relay that forwards packets leaves the *mark* intact: 16 bytes in the packet's padding, where RFC 6716 section 3.2.5
lets any bytes be, so that the packet stays valid Opus of about 100 bytes for whoever decodes it.
A relay that decodes and encodes again loses the mark but not the *sound*: a short tone once a second, over soft noise.
Five pitches take turns, so that a tone is told from its neighbours up to five seconds late.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 48_000
PACKET_S = 0.02
SAMPLES_PER_PACKET = int(SAMPLE_RATE_HZ * PACKET_S)
PACKETS_PER_TONE = 50
TONES_HZ = (600, 1000, 1400, 1800, 2200)

_LOOP_PACKETS = PACKETS_PER_TONE * len(TONES_HZ)
_TONE_PACKETS = 3
_TONE_LEVEL = 0.5
# About -50 dBFS: the encoder has something to do, and the tone stands out by 40 dB.
_NOISE_LEVEL = 0.003
_BITRATE_BPS = 32_000
# A tone is where a packet's level rises above this; between the two levels above by a wide margin.
_ONSET_LEVEL = 0.02

# Stream number, packet number, CLOCK_REALTIME nanoseconds at departure, and a constant that says that it is a mark.
MARK = struct.Struct("!HIQH")
MARK_SIGN = 0x4D4B


def tone_of(packet_number: int) -> int | None:
    """Which of the tones begins in that packet, or None."""
    index, offset = divmod(packet_number % _LOOP_PACKETS, PACKETS_PER_TONE)
    return index if offset == 0 else None


def encode_loop() -> list[bytes]:
    """Five seconds of packets, each with room for a mark at its end; packet n is the loop's n modulo its length."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.bit_rate = _BITRATE_BPS
    encoder.format = av.AudioFormat("s16")
    encoder.layout = av.AudioLayout("mono")
    encoder.sample_rate = SAMPLE_RATE_HZ
    encoder.time_base = Fraction(1, SAMPLE_RATE_HZ)
    encoder.options = {"application": "voip", "vbr": "off"}
    packets = [_with_room(bytes(packet)) for frame in _loop_frames() for packet in encoder.encode(frame)]
    return packets[:_LOOP_PACKETS]


def mark(packet: bytes, stream: int, packet_number: int, departure_ns: int) -> bytes:
    return packet[: -MARK.size] + MARK.pack(stream, packet_number, departure_ns, MARK_SIGN)


class ToneListener:
    """Decodes one receiver's packets and notices where a tone begins."""

    def __init__(self) -> None:
        decoder = av.CodecContext.create("libopus", "r")
        assert isinstance(decoder, av.AudioCodecContext)
        decoder.format = av.AudioFormat("s16")
        decoder.layout = av.AudioLayout("mono")
        decoder.sample_rate = SAMPLE_RATE_HZ
        self._decoder = decoder
        self._was_quiet = False
        self._onset_ns: int | None = None

    def hear(self, payload: bytes, arrival_ns: int) -> tuple[int, int] | None:
        """The tone and the arrival of its first packet, once the packet after that tells its pitch."""
        samples = np.concatenate([_samples(frame) for frame in self._decoder.decode(av.Packet(payload))])
        onset_ns, self._onset_ns = self._onset_ns, None
        loud = float(np.abs(samples).max()) > _ONSET_LEVEL
        if loud and self._was_quiet:
            self._onset_ns = arrival_ns
        self._was_quiet = not loud
        if onset_ns is None:
            return None
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        pitch_hz = int(spectrum.argmax()) * SAMPLE_RATE_HZ / len(samples)
        return min(range(len(TONES_HZ)), key=lambda tone: abs(TONES_HZ[tone] - pitch_hz)), onset_ns


def _samples(frame: av.AudioFrame) -> npt.NDArray[np.float64]:
    channels = len(frame.layout.channels)
    return frame.to_ndarray().reshape(-1)[::channels].astype(np.float64) / 32768


def _loop_frames() -> Iterator[av.AudioFrame | None]:
    noise = np.random.default_rng(1)
    moments = np.arange(SAMPLES_PER_PACKET * _TONE_PACKETS) / SAMPLE_RATE_HZ
    for number in range(_LOOP_PACKETS):
        samples = noise.normal(0, _NOISE_LEVEL, SAMPLES_PER_PACKET)
        tone, offset = divmod(number, PACKETS_PER_TONE)
        if offset < _TONE_PACKETS:
            part = moments[offset * SAMPLES_PER_PACKET :][:SAMPLES_PER_PACKET]
            samples += _TONE_LEVEL * np.sin(2 * np.pi * TONES_HZ[tone] * part)
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = number * SAMPLES_PER_PACKET
        yield frame
    yield None


def _with_room(packet: bytes) -> bytes:
    """The one frame of a code 0 packet as a code 3 packet: one frame, constant bitrate, padding (RFC 6716 3.2.5)."""
    assert packet[0] & 3 == 0
    frame_count = 0x40 | 1
    return bytes((packet[0] | 3, frame_count, MARK.size)) + packet[1:] + bytes(MARK.size)
