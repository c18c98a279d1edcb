"""The folder of recordings: what is in it, and what goes when it has too much. Everything here blocks."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..settings.model import RecordingSettings
from .model import ENDING, UNFINISHED_ENDING, Recording
from .ogg_file import NotARecording, read, repair

logger = logging.getLogger(__name__)

PEAKS_ENDING = ".peaks"
"""Of the sidecar that holds a recording's waveform."""
_DAY_S = 86_400.0


class DiskFull(OSError):
    """Less is free than `recording.min_free_bytes`, and there is nothing left to remove."""


def load(folder: Path, unfinished: Collection[str] = ()) -> list[Recording]:
    """All recordings of the folder, none where it is not there; what a killed process left is repaired first.

    Files of these `unfinished` names are being written and are left alone. Raises OSError.
    """
    if not folder.is_dir():
        return []
    for path in sorted(folder.glob(f"*{UNFINISHED_ENDING}")):
        if path.name not in unfinished:
            _repair(path)
    found = []
    for path in folder.glob(f"*{ENDING}"):
        try:
            found.append(read(path))
        except (OSError, NotARecording) as error:
            logger.warning("%s is no recording: %s", ascii(path.name), error)
    return found


def _repair(path: Path) -> None:
    try:
        repaired = repair(path)
    except OSError as error:
        logger.warning("%s could not be repaired: %s", ascii(path.name), error)
        return
    outcome = "it has no sound and is removed" if repaired is None else "it is ended where it was cut off"
    logger.info("%s was left unfinished: %s", ascii(path.name), outcome)


def remove(folder: Path, file_name: str) -> None:
    """The file and what is kept beside it; safe when it is gone. Raises OSError."""
    path = folder / file_name
    path.unlink(missing_ok=True)
    with suppress(OSError):
        # It is of no use without the file; a later start does not look at it.
        (folder / (file_name + PEAKS_ENDING)).unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    changed_s: float


def remove_excess(
    folder: Path, settings: RecordingSettings, kept: Collection[str], now_unix_s: float
) -> tuple[list[str], bool]:
    """Removes the oldest files until the folder is within its limits, but none of these `kept` names.

    Gives the names of those that were removed, and whether as much is free as is to be. Raises OSError.
    """
    files = _finished_files(folder)
    total = sum(file.size for file in files)
    removed: list[str] = []
    for file in files:
        is_old = settings.max_age_days > 0 and now_unix_s - file.changed_s > settings.max_age_days * _DAY_S
        is_too_much = 0 < settings.max_total_bytes < total
        if not (is_old or is_too_much or free_bytes(folder) < settings.min_free_bytes):
            break
        if file.name not in kept:
            remove(folder, file.name)
            removed.append(file.name)
            total -= file.size
    return removed, free_bytes(folder) >= settings.min_free_bytes


def _finished_files(folder: Path) -> list[_File]:
    """The oldest first: names begin with the time."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ENDING) and entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                files.append(_File(entry.name, found.st_size, found.st_mtime))
    return sorted(files, key=lambda file: file.name)


class UnfinishedFile:
    """A recording that is being written."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        """Of the finished file."""
        self._folder = folder
        self._path = folder / (name.removesuffix(ENDING) + UNFINISHED_ENDING)
        self._descriptor = -1

    @property
    def unfinished_name(self) -> str:
        return self._path.name

    def open(self) -> None:
        """Makes it, and its folder where that is missing. Raises OSError, FileExistsError among them."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (self._folder / self.name).exists():
            raise FileExistsError(f"{self.name} is there already")
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """All of it, to the system. Raises OSError: also where the file has been removed meanwhile."""
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(f"{self._path.name} was removed while it was written")
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> int:
        """Closes it under its own name, on the disk; gives its bytes. Raises OSError."""
        try:
            os.fsync(self._descriptor)
            size = os.fstat(self._descriptor).st_size
        finally:
            self._close()
        self._path.rename(self._folder / self.name)
        return size

    def rescue(self) -> str | None:
        """After an error: closes it, and ends it after its last whole page. The name, if there is sound in it."""
        self._close()
        try:
            repaired = repair(self._path) if self._path.exists() else None
        except OSError:
            return None  # The next start tries again.
        return repaired.name if repaired is not None else None

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)
