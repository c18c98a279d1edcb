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

    async def remove(self, recording_id: str) -> Recording:
        """It is not listed any more from now on, unless the disk fails. Raises Refused `no_recording`, OSError."""
        recording = self.recordings.pop(recording_id, None)
        if recording is None:
            raise Refused("no_recording", "There is no such recording")
        try:
            await self._disk.run(lambda: files.remove(self.folder, recording.file))
        except OSError:
            self.add(recording)
            raise
        return recording

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

    async def remove_excess(self) -> tuple[list[Recording], bool]:
        """Removes what is too old or too much.

        Returns that, and whether as much of the disk is free as is to be. Raises OSError.
        """
        kept = frozenset(self._played)
        removed, is_free = await self._disk.run(
            lambda: files.remove_excess(self.folder, self._settings, kept, time.time())
        )
        names = frozenset(removed)
        gone = [recording for recording in self.recordings.values() if recording.file in names]
        for recording in gone:
            del self.recordings[recording.id]
        return gone, is_free

    def figures(self) -> Figures:
        return {
            "recordings_kept": len(self.recordings),
            "recordings_kept_bytes": sum(recording.bytes for recording in self.recordings.values()),
        }
