"""A recording that is being made, and what of a stream waits to be recorded. No I/O, no event loop."""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime

import msgspec

from ..media.ogg import RECORDING_PRE_SKIP, OggFormat, OggMuxer
from ..media.opus import CLOCK_RATE_HZ, MOST_PACKET_TICKS, OpusPacket, packet_ticks
from ..media.opus_line import OpusLineCounters
from ..streams.stream import Stream
from .model import Recording, State, iso_time, recording_id

PATIENCE_TICKS = CLOCK_RATE_HZ // 5
"""How late a packet may come before silence takes its place: longer than for listeners, as nobody waits for it."""

ONSET_S = 0.3
"""A file of one utterance begins so much before the packet that was heard first: a word begins quietly."""

SILENT_BITS_PER_S = 4000
"""Less than libopus spends on any sound: DTX, and what a muted microphone gives."""


def is_silent(payload: bytes) -> bool:
    """Whether a packet has so few bytes that nothing is said in it."""
    ticks = packet_ticks(payload)
    return ticks is None or len(payload) * 8 * CLOCK_RATE_HZ <= SILENT_BITS_PER_S * ticks


class LiveRecording:
    """One file's worth of a voice, in real time: its length is how long it took, whatever packets came."""

    def __init__(
        self, stream: Stream, file_name: str, begun_s: float, started_at: datetime, counters: OpusLineCounters
    ) -> None:
        """`begun_s` are monotonic seconds, and `started_at` is the same time by the calendar."""
        self.stream = stream
        self.file_name = file_name
        self.id = recording_id(file_name)
        self.begun_s = begun_s
        self.bytes = 0
        """Of the pages that were taken."""
        self._started_at = started_at
        self._counters = counters
        chosen = OggFormat(random.getrandbits(32), RECORDING_PRE_SKIP)
        self._muxer = OggMuxer(chosen, counters, patience=PATIENCE_TICKS, tags=self._tags())
        self._pending = self._muxer.headers

    @property
    def end_s(self) -> float:
        """Monotonic seconds at which it ends, once it is finished."""
        return self.begun_s + (self._muxer.position - RECORDING_PRE_SKIP) / CLOCK_RATE_HZ

    def push(self, packet: OpusPacket) -> None:
        self._muxer.push(packet, self._due(packet.arrived_s))

    def take(self, now_s: float) -> bytes:
        """Whole pages with what came since the last call, and with the silence that passed."""
        self._muxer.advance(self._due(now_s))
        return self._taken(self._muxer.pages())

    def finish(self, now_s: float) -> bytes:
        """The last pages. It is as long as it took."""
        return self._taken(self._muxer.finish(self._due(now_s) + RECORDING_PRE_SKIP))

    def state(self, now_s: float) -> Recording:
        return self._recording(now_s - self.begun_s, State.RECORDING, self.bytes)

    def finished(self, size: int) -> Recording:
        return self._recording(self.end_s - self.begun_s, State.FINISHED, size)

    def _recording(self, seconds: float, state: State, size: int) -> Recording:
        return Recording(
            id=self.id,
            stream=self.stream.id,
            talker=self.stream.name,
            started_at=iso_time(self._started_at),
            seconds=round(max(0.0, seconds), 3),
            bytes=size,
            state=state,
            rooms=list(self.stream.rooms),
            file=self.file_name,
        )

    def _tags(self) -> dict[str, str]:
        started_at = iso_time(self._started_at)
        rooms = {"ROOMS": msgspec.json.encode(self.stream.rooms).decode()} if self.stream.rooms else {}
        title = f"{self.stream.name} {self._started_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        return {"TITLE": title, "ARTIST": self.stream.name, "DATE": started_at, "STREAM": self.stream.id, **rooms}

    def _due(self, at_s: float) -> float:
        return (at_s - self.begun_s) * CLOCK_RATE_HZ

    def _taken(self, pages: bytes) -> bytes:
        taken, self._pending = self._pending + pages, b""
        self.bytes += len(taken)
        return taken


class Ring:
    """The last packets of a stream, for a recording that begins before it is asked for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._packets: deque[OpusPacket] = deque()

    def add(self, packet: OpusPacket) -> None:
        self._packets.append(packet)
        while self._packets[0].arrived_s < packet.arrived_s - self._seconds:
            self._packets.popleft()

    def take(self, now_s: float) -> list[OpusPacket]:
        """Those of the last seconds, the oldest first; it is empty then."""
        recent = [packet for packet in self._packets if packet.arrived_s >= now_s - self._seconds]
        self._packets.clear()
        return recent


def begin_of(packet: OpusPacket) -> float:
    """Monotonic seconds at which the sound of a packet that has just arrived began."""
    return packet.arrived_s - (packet_ticks(packet.payload) or MOST_PACKET_TICKS) / CLOCK_RATE_HZ
