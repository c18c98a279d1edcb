"""A recording as it is listed, and the name of its file."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from enum import Enum

import msgspec
from msgspec import Struct

from ..streams.grants import Grant
from ..streams.names import name_key

ENDING = ".opus"
UNFINISHED_ENDING = ".opus.part"
MOST_FILE_NAME_BYTES = 200
"""Of the unfinished name, in UTF-8: with room for a sidecar's ending, of what most file systems take (255)."""

_STAMP = "%Y-%m-%dT%H-%M-%SZ"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%;]')
"""What some file system or shell does not take; most of it cannot be in a stream's name either."""


class State(Enum):
    RECORDING = "recording"
    FINISHED = "finished"


class Recording(Struct, frozen=True):
    """A recording as clients are told of it; fields may be added."""

    id: str
    """16 hexadecimal digits, always the same for the same file."""
    stream: str
    talker: str
    started_at: str
    """UTC, ISO 8601, whole seconds."""
    seconds: float
    bytes: int
    state: State
    rooms: list[str] = msgspec.field(default_factory=list)
    """Names of the rooms that the voice was for; none: everyone."""
    file: str = ""
    """The name of the finished file."""

    def may_be_heard_with(self, grant: Grant) -> bool:
        """As `Stream.may_be_heard_with`."""
        return grant.covers_voice(self.stream, frozenset(map(name_key, self.rooms)))


def recording_id(file_name: str) -> str:
    """The id of a finished file of that name."""
    return hashlib.sha256(file_name.encode(errors="surrogateescape")).hexdigest()[:16]


def file_name(stream_name: str, started_at: datetime, attempt: int = 1) -> str:
    """The finished file's; `attempt` counts files of one second and name."""
    again = "" if attempt == 1 else f" {attempt}"
    beginning = f"{started_at.astimezone(UTC).strftime(_STAMP)} "
    ending = again + ENDING
    room = MOST_FILE_NAME_BYTES - len(beginning) - len(again) - len(UNFINISHED_ENDING)
    name = _UNSAFE.sub("_", stream_name).encode(errors="replace")[:room].decode(errors="ignore").strip(" ")
    return beginning + (name or "voice") + ending


def iso_time(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
