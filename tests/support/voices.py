"""Voices in virtual time: tones on tracks, packet by packet, and what is heard of them."""

from __future__ import annotations

import asyncio
from functools import cache

import numpy as np

from tests.support.audio import SAMPLE_RATE_HZ, Samples, decode_opus, encode_opus
from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.source import Source
from voice_streaming.streams.track import OpusTrack

PACKET_S = 0.02
PACKET_TICKS = 960


@cache
def tone_payloads(frequency_hz: int, amplitude: float = 0.1, seconds: float = 2.0) -> tuple[bytes, ...]:
    """Begun anew after that time, which a decoder may answer with a click."""
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return tuple(encode_opus((amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)))


class Voice:
    """One talker. `drift_ppm`: by how much its clock is fast; `period_s`: after which its sound begins anew."""

    def __init__(
        self,
        frequency_hz: int,
        track: OpusTrack | None = None,
        *,
        amplitude: float = 0.1,
        drift_ppm: float = 0.0,
        period_s: float = 2.0,
    ) -> None:
        self.frequency_hz = frequency_hz
        self.track = OpusTrack() if track is None else track
        self._payloads = tone_payloads(frequency_hz, amplitude, period_s)
        self._source: Source = self.track.take_source()
        self._interval_s = PACKET_S / (1 + drift_ppm * 1e-6)
        self._number = frequency_hz

    async def talk(self, seconds: float, *, lose_each: int = 0) -> None:
        """One packet each 20 ms by its own clock; of `lose_each` packets, one is lost."""
        loop = asyncio.get_running_loop()
        begun_s, count = loop.time(), round(seconds / self._interval_s)
        for number in range(count):
            if not lose_each or number % lose_each:
                self._publish(loop.time())
            self._number += 1
            await asyncio.sleep(begun_s + (number + 1) * self._interval_s - loop.time())

    def _publish(self, now_s: float) -> None:
        payload = self._payloads[self._number % len(self._payloads)]
        timestamp = self._number * PACKET_TICKS & 0xFFFF_FFFF
        self._source.publish(1, self._number & 0xFFFF, timestamp, False, payload, now_s)


class Ear:
    """A sink that keeps packets and when they came."""

    def __init__(self, track: OpusTrack) -> None:
        self.packets: list[OpusPacket] = []
        self.at_s: list[float] = []
        self.has_ended = False
        track.attach(self)

    def on_packet(self, packet: OpusPacket) -> None:
        self.packets.append(packet)
        self.at_s.append(asyncio.get_running_loop().time())

    def on_end(self) -> None:
        self.has_ended = True

    def samples(self) -> Samples:
        return decode_opus([packet.payload for packet in self.packets])


def level_of(samples: Samples, frequency_hz: int) -> float:
    """The amplitude of a tone, of which whole periods fit into 20 ms: the median of pieces of that length."""
    pieces = samples[: len(samples) // PACKET_TICKS * PACKET_TICKS].reshape(-1, PACKET_TICKS)
    wave = np.exp(-2j * np.pi * frequency_hz * np.arange(PACKET_TICKS) / SAMPLE_RATE_HZ)
    return float(np.median(2 * np.abs(pieces @ wave) / PACKET_TICKS))
