"""Records streams: begins and ends files by the settings and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..media.opus import CLOCK_RATE_HZ
from ..media.opus_line import OpusLineCounters
from ..process.failures import Failures
from ..process.figures import Figures
from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..process.timers import Timer
from ..settings.model import RecordingSettings
from ..streams.names import name_key
from ..streams.registry import StreamObserver
from ..streams.relay import VoiceRelay
from ..streams.stream import Stream
from .disk import Disk, DiskTooSlow
from .library import Library
from .live import LiveRecording
from .model import Recording, file_name
from .tap import Tap
from .writing import Writing

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.5
"""How often what came is written: a killed process loses less than a second."""
RETRY_S = 10.0
"""How long a recording that failed waits before it goes on in another file."""
CLEAN_INTERVAL_S = 30.0
"""How often the limits of the folder are looked at."""
CLOSE_TIMEOUT_S = 1.5
"""How long the end of the server waits for the disk."""
PROBLEM = "recording"
"""In `/health`."""


class RecordingObserver:
    """To be subclassed. A file's end is told when it is complete."""

    def on_recording_started(self, stream: Stream, recording: Recording) -> None: ...

    def on_recording_ended(self, stream: Stream, recording: Recording) -> None: ...

    def on_recording_failed(self, stream: Stream, reason: str) -> None: ...

    def on_recording_deleted(self, recording: Recording) -> None: ...


class Recorder(StreamObserver):
    """All recordings. Whatever the disk does, voices go on: a thread of its own writes."""

    def __init__(
        self,
        settings: RecordingSettings,
        folder: Path,
        relay: VoiceRelay,
        failures: Failures | None = None,
        disk: Disk | None = None,
        calendar: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """To be made with a running loop."""
        self._calendar = calendar
        self.settings = settings
        self._disk = Disk() if disk is None else disk
        self.library = Library(settings, folder, self._disk)
        self._failures = Failures() if failures is None else failures
        self._tasks = Tasks(self._failures)
        self._relay = relay
        self._now_s = asyncio.get_running_loop().time
        self._taps: dict[Stream, Tap] = {}
        self._writing: dict[LiveRecording, Writing] = {}
        """Files that are not closed yet."""
        self._counters = OpusLineCounters()
        self._started = self._failed = self._written_bytes = 0
        self._is_full = False
        """Less of the disk is free than is to be."""
        self._observers: list[RecordingObserver] = []
        self._timer = Timer("recording-writer", self._write_all, self._failures)

    def observe(self, observer: RecordingObserver) -> None:
        self._observers.append(observer)

    async def run(self) -> None:
        """Reads the folder; then, for as long as anything is recorded at all, keeps it within its limits."""
        try:
            await self.library.load(lambda: [writing.unfinished_name for writing in self._writing.values()])
        except OSError as error:
            self._hold(f"{self.library.folder} cannot be read: {_cause(error)}")
        while self.settings.mode != "off":
            await self._clean()
            await asyncio.sleep(CLEAN_INTERVAL_S)

    async def close(self) -> None:
        """Ends all recordings, as far as the disk does that in CLOSE_TIMEOUT_S; the next start repairs the others."""
        self._timer.cancel()
        for stream in list(self._taps):
            self._forget(stream)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._tasks.wait()
        if self._writing:
            logger.warning("%d recordings were not closed in time", len(self._writing))
        await self._tasks.cancel()
        self._disk.close()

    # For clients

    def active(self) -> list[Recording]:
        """Those that are being made."""
        now_s = self._now_s()
        return [tap.live.state(now_s) for tap in self._taps.values() if tap.live is not None]

    def find(self, recording_id: str) -> Recording | None:
        found = next((recording for recording in self.active() if recording.id == recording_id), None)
        return found or self.library.recordings.get(recording_id)

    def start(self, stream: Stream, seconds: float | None = None) -> Recording:
        """Records the stream, from its pre-roll on, for so many seconds or to its end. Raises Refused."""
        if self.settings.mode == "off":
            raise Refused("recording_off", "Recording is off: set recording.mode to manual or always")
        if not stream.is_live:
            raise Refused("no_stream", f"{stream.name} is not live")
        if stream.is_remote:
            raise Refused("recorded_elsewhere", f"{stream.name} is with the server {stream.node}, which records it")
        tap = self._tap(stream)
        if tap.live is not None:
            raise Refused("already_recorded", f"{stream.name} is being recorded already")
        now_s = self._now_s()
        self._want(tap, None if seconds is None else now_s + seconds)
        tap.begin_at_once(now_s)
        if tap.live is None:
            self._unwant(tap)
            raise Refused("recording_failed", f"It cannot be recorded now: {self._failures.problems.get(PROBLEM)}")
        return tap.live.state(now_s)

    def stop(self, recording_id: str) -> Recording:
        """Ends it; its stream is recorded again when somebody asks for it. Raises Refused `not_recording`."""
        for tap in self._taps.values():
            if tap.live is not None and tap.live.id == recording_id:
                recording = tap.live.state(self._now_s())
                self._unwant(tap)
                return recording
        raise Refused("not_recording", "This is not being recorded")

    async def remove(self, recording_id: str) -> None:
        """Removes a finished one. Raises Refused, OSError."""
        if any(live.id == recording_id for live in self._writing):
            raise Refused("being_recorded", "This is being recorded: stop that first")
        self._tell_deleted(await self.library.remove(recording_id))

    def figures(self) -> Figures:
        """By the names they have in `/metrics`."""
        return {
            "recordings_active": len(self._writing),
            "recordings_started_total": self._started,
            "recordings_failed_total": self._failed,
            "recording_written_bytes_total": self._written_bytes,
            "recording_waiting_writes": self._disk.waiting,
            "recording_silence_seconds_total": round(self._counters.silence_ticks / CLOCK_RATE_HZ, 3),
            "recording_late_packets_total": self._counters.late_packets,
            **self.library.figures(),
        }

    def describe(self) -> dict[str, object]:
        """For `/health`."""
        settings = self.settings
        active = len([tap for tap in self._taps.values() if tap.live is not None])
        return {"mode": settings.mode, "active": active, "open_to_all": settings.open, "cue": settings.cue}

    # As an observer of streams

    def on_stream_live(self, stream: Stream) -> None:
        if stream.is_remote:
            return
        if self.settings.mode == "always" and self._is_meant(stream):
            self._want(self._tap(stream), None)
        elif self.settings.mode != "off" and self.settings.pre_roll_s:
            self._tap(stream)

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        if stream in self._taps:
            self._forget(stream)

    def on_stream_moved(self, stream: Stream) -> None:
        """The server that its sender is with records it."""
        if stream.is_remote:
            self.on_stream_ended(stream, "moved")
        else:
            stream.is_recorded = False
            self.on_stream_live(stream)

    # Within

    def _is_meant(self, stream: Stream) -> bool:
        keys = [stream.key, *stream.room_keys]
        return any(fnmatch.fnmatchcase(key, name_key(pattern)) for pattern in self.settings.names for key in keys)

    def _tap(self, stream: Stream) -> Tap:
        if stream not in self._taps:
            if not self._taps:
                self._timer.set(self._now_s() + WRITE_INTERVAL_S)
            self._taps[stream] = Tap(stream, self.settings, self._begin)
            self._relay.attach(stream.track, self._taps[stream])
        return self._taps[stream]

    def _want(self, tap: Tap, ends_s: float | None) -> None:
        tap.is_wanted, tap.ends_s, tap.retry_s = True, ends_s, None
        tap.stream.consumers.add(tap)
        tap.stream.is_recorded = True

    def _unwant(self, tap: Tap) -> None:
        """Nothing more of it is recorded; a pre-roll goes on."""
        tap.is_wanted = tap.stream.is_recorded = False
        tap.stream.consumers.discard(tap)
        self._end_file(tap)
        if not self.settings.pre_roll_s:
            self._detach(tap)

    def _forget(self, stream: Stream) -> None:
        self._unwant(self._taps[stream])
        if stream in self._taps:
            self._detach(self._taps[stream])

    def _detach(self, tap: Tap) -> None:
        del self._taps[tap.stream]
        self._relay.detach(tap.stream.track, tap)

    def _begin(self, tap: Tap, begun_s: float) -> LiveRecording | None:
        """For `BeginsFiles`."""
        if self._is_full:
            tap.retry_s = self._now_s() + RETRY_S
            return None
        started_at = self._calendar() - timedelta(seconds=self._now_s() - begun_s)
        live = LiveRecording(tap.stream, self._free_name(tap.stream, started_at), begun_s, started_at, self._counters)
        writing = Writing(self._disk, self.library.folder, live.file_name, lambda error: self._fail(tap, live, error))
        self._writing[live] = writing
        try:
            writing.open()
        except DiskTooSlow as error:
            self._fail(tap, live, error)
            return None
        tap.stream.is_recorded = True
        self._started += 1
        self._tell(lambda observer: observer.on_recording_started(tap.stream, live.state(self._now_s())))
        return live

    def _free_name(self, stream: Stream, started_at: datetime) -> str:
        taken = {recording.file for recording in self.library.recordings.values()}
        taken |= {live.file_name for live in self._writing}
        attempt = 1
        while (name := file_name(stream.id, started_at, attempt)) in taken:
            attempt += 1
        return name

    def _write_all(self) -> None:
        now_s = self._now_s()
        for tap in list(self._taps.values()):
            if tap.live is not None:
                self._write(tap, tap.live, now_s)
        if self._taps:
            self._timer.set(now_s + WRITE_INTERVAL_S)

    def _write(self, tap: Tap, live: LiveRecording, now_s: float) -> None:
        if tap.is_over(now_s):
            self._unwant(tap)
        elif tap.is_split_due(now_s):
            self._end_file(tap)
        elif tap.is_segment_due(now_s):
            self._end_file(tap)
            tap.live = self._begin(tap, live.end_s)
        else:
            self._write_pages(tap, live, live.take(now_s))

    def _write_pages(self, tap: Tap, live: LiveRecording, pages: bytes) -> None:
        writing = self._writing[live]
        if writing.has_written:
            self._failures.release(PROBLEM)
        self._written_bytes += len(pages)
        try:
            writing.write(pages)
        except DiskTooSlow as error:
            self._fail(tap, live, error)

    def _end_file(self, tap: Tap) -> None:
        live, tap.live = tap.live, None
        if live is not None:
            pages = live.finish(self._now_s())
            self._written_bytes += len(pages)
            self._tasks.spawn(self._finish(tap, live, pages), f"finish-recording-{live.id}")

    async def _finish(self, tap: Tap, live: LiveRecording, pages: bytes) -> None:
        try:
            size = await self._writing[live].finish(pages)
        except OSError as error:
            self._fail(tap, live, error)
            return
        del self._writing[live]
        finished = live.finished(size)
        self.library.add(finished)
        self._tell(lambda observer: observer.on_recording_ended(tap.stream, finished))

    def _fail(self, tap: Tap, live: LiveRecording, error: OSError) -> None:
        """The file is given up; another one is begun RETRY_S later, if the voice is still to be recorded."""
        writing = self._writing.pop(live, None)
        if writing is None:
            return
        writing.abandon()
        reason = _cause(error)
        self._failed += 1
        self._hold(reason)
        if tap.live is live:
            tap.live = None
        # Of a file that was over, while the next is being written, nothing is to be begun anew.
        tap.stream.is_recorded = tap.live is not None
        tap.retry_s = self._now_s() + RETRY_S
        self._tasks.spawn(self.library.add_rescued(live.file_name), f"rescue-recording-{live.id}")
        self._tell(lambda observer: observer.on_recording_failed(tap.stream, reason))

    async def _clean(self) -> None:
        try:
            removed, is_free = await self.library.remove_excess()
        except FileNotFoundError:
            return  # Nothing has been recorded yet, or whoever writes finds out.
        except OSError as error:
            self._hold(_cause(error))
            return
        for recording in removed:
            self._tell_deleted(recording)
        self._is_full = not is_free
        if self._is_full:
            self._stop_for_lack_of_room()

    def _stop_for_lack_of_room(self) -> None:
        error = OSError(f"less than recording.min_free_bytes ({self.settings.min_free_bytes}) is free on the disk")
        self._hold(_cause(error))
        for tap in self._taps.values():
            if tap.live is not None:
                self._fail(tap, tap.live, error)

    def _hold(self, reason: str) -> None:
        if PROBLEM not in self._failures.problems:
            logger.warning("Recording fails, and is tried again: %s", reason)
        self._failures.hold(PROBLEM, reason)

    def _tell_deleted(self, recording: Recording) -> None:
        self._tell(lambda observer: observer.on_recording_deleted(recording))

    def _tell(self, call: Callable[[RecordingObserver], None]) -> None:
        for observer in self._observers:
            with self._failures.guard(f"observer-{type(observer).__name__}"):
                call(observer)


def _cause(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
