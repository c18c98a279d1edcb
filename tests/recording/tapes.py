"""Voices that are recorded in virtual time, onto a real folder."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.ogg import payloads_of, read_ogg_opus, ticks_of
from tests.support.voices import Voice
from voice_streaming.process.failures import Failures
from voice_streaming.recording.disk import Disk, DiskTooSlow, Job
from voice_streaming.recording.model import Recording
from voice_streaming.recording.recorder import Recorder, RecordingObserver
from voice_streaming.settings.model import RecordingSettings
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream


class InlineDisk(Disk):
    """Does each job at once, as virtual time waits for no thread. `is_stuck`: it takes no more."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck = False

    def submit(self, job: Job) -> None:
        if self.is_stuck:
            raise DiskTooSlow("the disk is too slow")
        job()


def _calendar() -> datetime:
    return datetime(2026, 11, 25, 14, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())


class News(RecordingObserver):
    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.ended: list[Recording] = []
        self.reasons: list[str] = []

    def on_recording_started(self, stream: Stream, recording: Recording) -> None:
        self.kinds.append("started")

    def on_recording_ended(self, stream: Stream, recording: Recording) -> None:
        self.kinds.append("ended")
        self.ended.append(recording)

    def on_recording_failed(self, stream: Stream, reason: str) -> None:
        self.kinds.append("failed")
        self.reasons.append(reason)

    def on_recording_deleted(self, recording: Recording) -> None:
        self.kinds.append("deleted")


class Studio:
    """A registry of streams and a recorder, without a server."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.relay = VoiceRelay()
        self.streams = Streams(self.relay, resume_grace_s=10)
        self.failures = Failures()
        self.disk = InlineDisk()
        chosen = RecordingSettings(**{"mode": "always", "min_free_bytes": 0, "segment_minutes": 0.0, **settings})
        self.recorder = Recorder(chosen, folder, self.relay, self.failures, self.disk, _calendar)
        self.streams.observe(self.recorder)
        self.news = News()
        self.recorder.observe(self.news)

    def stream(self, name: str = "kitchen", *rooms: str) -> Stream:
        stream = self.streams.create(name, name.title(), "sender")
        stream.rooms = rooms
        return stream

    def voice(self, stream: Stream, frequency_hz: int = 440, **facts: Any) -> Voice:
        return Voice(frequency_hz, stream.track, **facts)

    async def heard(self, seconds: float) -> tuple[Stream, Voice]:
        """A stream, and the voice that has been talking on it for so long."""
        stream = self.stream()
        voice = self.voice(stream)
        await voice.talk(seconds)
        return stream, voice

    async def end(self, stream: Stream) -> None:
        self.streams.end(stream, "sender left")
        await self.settled()

    async def settled(self) -> None:
        """Everything that was begun is done; no time passes."""
        for _ in range(10):
            await asyncio.sleep(0)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.opus"))

    def unfinished(self) -> list[Path]:
        return sorted(self.folder.glob("*.part"))

    def only(self) -> Path:
        (path,) = self.files()
        assert not self.unfinished()
        return path


def payloads(path: Path) -> list[bytes]:
    """All packets of a file that is as the RFCs have it."""
    return payloads_of(read_ogg_opus(path.read_bytes()))


def seconds(path: Path) -> float:
    return (sum(map(ticks_of, payloads(path))) - 312) / 48_000
