"""What is recorded of one stream: a sink that begins files, and says when they are to end."""

from __future__ import annotations

from typing import Protocol

from ..media.opus import OpusPacket
from ..settings.model import RecordingSettings
from ..streams.stream import Stream
from .live import ONSET_S, LiveRecording, Ring, begin_of, is_silent


class BeginsFiles(Protocol):
    def __call__(self, tap: Tap, begun_s: float) -> LiveRecording | None:
        """A new file for it, or None where none can be had now."""


class Tap:
    """Takes the packets of a stream: into a file while it `is_wanted`, else, for a pre-roll, into memory alone."""

    def __init__(self, stream: Stream, settings: RecordingSettings, begin: BeginsFiles) -> None:
        self.stream = stream
        self.live: LiveRecording | None = None
        self.is_wanted = False
        """Whether the stream is to be recorded."""
        self.ends_s: float | None = None
        """Monotonic seconds until when; None: until its end."""
        self.retry_s: float | None = None
        """After a failure: when another file may be begun."""
        self._settings = settings
        self._begin = begin
        self._heard_s = 0.0
        """Arrival of the newest packet in which something is said."""
        self._ring = Ring(max(settings.pre_roll_s, ONSET_S if settings.split_on_silence_s else 0.0))

    def begin_at_once(self, now_s: float) -> None:
        """Begins a file with what is remembered, or else with what comes."""
        self._begin_file(now_s, None)

    def on_packet(self, packet: OpusPacket) -> None:
        if self.live is None and self.is_wanted and self._may_begin(packet):
            self._begin_file(packet.arrived_s, packet)
        if self.live is None:
            self._ring.add(packet)
            return
        if not (self._settings.split_on_silence_s and is_silent(packet.payload)):
            self._heard_s = packet.arrived_s
        self.live.push(packet)

    def on_end(self) -> None:
        """A no-op: the recorder is told of the stream's end as an observer."""

    def is_over(self, now_s: float) -> bool:
        """Whether it was wanted for so long, and no longer."""
        return self.ends_s is not None and now_s >= self.ends_s

    def is_split_due(self, now_s: float) -> bool:
        """Whether nothing was said for so long that the file ends."""
        silence_s = self._settings.split_on_silence_s
        return bool(silence_s) and now_s - self._heard_s >= silence_s

    def is_segment_due(self, now_s: float) -> bool:
        """Whether the file is so long that another one follows."""
        segment_s = self._settings.segment_minutes * 60
        return bool(segment_s) and self.live is not None and now_s - self.live.begun_s >= segment_s

    def _may_begin(self, packet: OpusPacket) -> bool:
        if self.retry_s is not None and packet.arrived_s < self.retry_s:
            return False
        return not (self._settings.split_on_silence_s and is_silent(packet.payload))

    def _begin_file(self, now_s: float, packet: OpusPacket | None) -> None:
        earlier = self._ring.take(now_s)
        first = earlier[0] if earlier else packet
        self.live = self._begin(self, now_s if first is None else begin_of(first))
        self._heard_s = now_s
        if self.live is not None:
            for past in earlier:
                self.live.push(past)
