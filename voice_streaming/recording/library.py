"""The recordings that are kept: a list in memory of what is in the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..process.figures import Figures
from ..process.refusal import Refused
from ..settings.model import RecordingSettings
from . import folder as files
from .disk import Disk
from .model import Recording
from .ogg_file import NotARecording, read


class Library:
    """Finished recordings by their ids. What blocks is done by the disk's thread."""

    def __init__(self, settings: RecordingSettings, folder: Path, disk: Disk) -> None:
        self.recordings: dict[str, Recording] = {}
        self.folder = folder
        self._settings = settings
        self._disk = disk
        self._played: dict[str, int] = {}
        """How often each file is being played."""

    async def load(self, writing: Callable[[], Collection[str]]) -> None:
        """Reads the folder, and repairs what a killed process left; not the files that are being written. Raises
        OSError."""
        found = await self._disk.run(lambda: files.load(self.folder, writing()))
        self.recordings = {recording.id: recording for recording in found} | self.recordings

    def add(self, recording: Recording) -> None:
        self.recordings[recording.id] = recording

    async def add_rescued(self, file_name: str) -> None:
        """A file that a failure cut short, if there is anything in it."""
        try:
            self.add(await self._disk.run(lambda: read(self.folder / file_name)))
        except (OSError, NotARecording):
            return  # Nothing of it was saved.

    async def remove(self, recording_id: str) -> None:
        """Raises Refused `no_recording`, OSError."""
        recording = self.recordings.get(recording_id)
        if recording is None:
            raise Refused("no_recording", "There is no such recording")
        await self._disk.run(lambda: files.remove(self.folder, recording.file))
        self.recordings.pop(recording_id, None)

    @contextmanager
    def playing(self, recording: Recording) -> Iterator[Path]:
        """Its file, which does not go for its age or size meanwhile."""
        self._played[recording.file] = self._played.get(recording.file, 0) + 1
        try:
            yield self.folder / recording.file
        finally:
            self._played[recording.file] -= 1
            if not self._played[recording.file]:
                del self._played[recording.file]

    async def remove_excess(self) -> bool:
        """Removes what is too old or too much; whether as much of the disk is free as is to be. Raises OSError."""
        kept = frozenset(self._played)
        removed, is_free = await self._disk.run(
            lambda: files.remove_excess(self.folder, self._settings, kept, time.time())
        )
        gone = set(removed)
        self.recordings = {id_: found for id_, found in self.recordings.items() if found.file not in gone}
        return is_free

    def figures(self) -> Figures:
        return {
            "recordings_kept": len(self.recordings),
            "recordings_kept_bytes": sum(recording.bytes for recording in self.recordings.values()),
        }
