"""A stream's sender and a listener of its MP3, without sockets: for tests in virtual or real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from tests.support.audio import OPUS_FRAME_SAMPLES
from tests.support.publishing import hand_out
from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.track import OpusTrack

PACKET_S = OPUS_FRAME_SAMPLES / 48_000


def packets_of(payloads: Iterable[bytes], *, sequence: int = 0, timestamp: int = 0) -> list[OpusPacket]:
    """20 ms packets in a row."""
    return [
        OpusPacket(payload, sequence + index, timestamp + index * OPUS_FRAME_SAMPLES, index == 0, 0.0)
        for index, payload in enumerate(payloads)
    ]


async def send(
    track: OpusTrack, packets: Sequence[OpusPacket], *, clock: float = 1.0, late_s: Callable[[int], float] | None = None
) -> None:
    """Publishes each packet when its timestamp says, by a sender's clock that runs `clock` times as fast as ours.

    `late_s` says how much later the packet with that index arrives; infinity for one that is lost.
    """
    loop = asyncio.get_running_loop()
    first = packets[0].timestamp
    begun_s = loop.time()
    moments = [
        (begun_s + (packet.timestamp - first) / 48_000 / clock + (late_s(index) if late_s else 0.0), index)
        for index, packet in enumerate(packets)
    ]
    for at_s, index in sorted(moments):
        if at_s == np.inf:
            return
        await asyncio.sleep(at_s - loop.time())
        hand_out(track, packets[index]._replace(arrived_s=loop.time()))


class RecordingTransport(asyncio.Transport):
    """A socket of a player that reads everything at once; keeps what it got, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent_bytes = 0
        """As if the player did not read."""
        self.writes: list[tuple[float, bytes]] = []
        self._is_closing = False

    @property
    def received(self) -> bytes:
        return b"".join(piece for _, piece in self.writes)

    def write(self, data: Any) -> None:
        self.writes.append((asyncio.get_running_loop().time(), data))

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        self._is_closing = True

    def close(self) -> None:
        self._is_closing = True


def mp3_frames(mp3: bytes) -> list[bytes]:
    """Cuts MPEG-1 Layer III frames apart; AssertionError where one does not begin where the last ended."""
    bitrates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    rates = (44_100, 48_000, 32_000)
    frames = []
    position = 0
    while position < len(mp3):
        assert mp3[position] == 0xFF, f"no frame at byte {position}"
        assert mp3[position + 1] & 0xFE == 0xFA, f"no MPEG-1 Layer III frame at byte {position}"
        third = mp3[position + 2]
        length = 144_000 * bitrates[third >> 4] // rates[third >> 2 & 3] + (third >> 1 & 1)
        frames.append(mp3[position : position + length])
        position += length
    return frames


def decode_mp3(frames: Iterable[bytes]) -> NDArray[np.float32]:
    """The left channel at the MP3's own rate, with every sample that the decoder gives: 1,152 per frame."""
    decoder = av.CodecContext.create("mp3float", "r")
    assert isinstance(decoder, AudioCodecContext)
    pieces = [part.to_ndarray()[0] for frame in frames for part in decoder.decode(av.Packet(frame))]
    return np.concatenate(pieces).astype(np.float32)
