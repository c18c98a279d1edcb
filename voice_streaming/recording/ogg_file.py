"""Recordings as files: what is in one, and how one that was cut off is repaired. Everything here blocks."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..media.ogg import checksum
from ..media.opus import CLOCK_RATE_HZ
from .model import ENDING, UNFINISHED_ENDING, Recording, State, iso_time, recording_id

_PAGE_HEADER = struct.Struct("<4sBBqII4sB")
"""RFC 3533 section 6."""
_CHECKSUM = slice(22, 26)
_FLAGS_AT = 5
_LAST_PAGE = 0x04
_MOST_PAGE_BYTES = _PAGE_HEADER.size + 255 + 255 * 255


class NotARecording(Exception):
    """The file is no Ogg file of Opus, or is cut off before its sound."""


@dataclass(frozen=True)
class Page:
    at: int
    """Where it begins in the file."""
    position: int
    """Granule position after it."""
    data: bytes

    @property
    def end(self) -> int:
        return self.at + len(self.data)

    @property
    def payload(self) -> bytes:
        return self.data[_PAGE_HEADER.size + self.data[_PAGE_HEADER.size - 1] :]


def pages(file: BinaryIO) -> Iterator[Page]:
    """The whole pages from the file's begin, up to the first that is cut off or damaged."""
    at = 0
    while True:
        file.seek(at)
        page = _page(at, file.read(_MOST_PAGE_BYTES))
        if page is None:
            return
        yield page
        at = page.end


def _page(at: int, data: bytes) -> Page | None:
    """The page that the data begins with, if it is whole."""
    if len(data) < _PAGE_HEADER.size:
        return None
    capture, version, _, position, _, _, _, segments = _PAGE_HEADER.unpack_from(data)
    body_at = _PAGE_HEADER.size + segments
    if capture != b"OggS" or version != 0 or len(data) < body_at:
        return None
    end = body_at + sum(data[_PAGE_HEADER.size : body_at])
    page = data[:end]
    if len(page) < end or checksum(page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]) != page[_CHECKSUM]:
        return None
    return Page(at, position, page)


def _last_page(file: BinaryIO, size: int) -> Page | None:
    """The last whole page that ends with the file."""
    begin = max(0, size - _MOST_PAGE_BYTES)
    file.seek(begin)
    tail = file.read(_MOST_PAGE_BYTES)
    at = tail.rfind(b"OggS")
    while at >= 0:
        page = _page(begin + at, tail[at:])
        if page is not None and page.end == size:
            return page
        at = tail.rfind(b"OggS", 0, at)
    return None


def read(path: Path) -> Recording:
    """What a finished file says of itself. Raises OSError, NotARecording."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        beginning = pages(file)
        head, comments = next(beginning, None), next(beginning, None)
        last = _last_page(file, size)
    if head is None or comments is None or last is None or not head.payload.startswith(b"OpusHead"):
        raise NotARecording(path.name)
    tags = _tags(comments.payload)
    pre_skip = struct.unpack_from("<H", head.payload, 10)[0] if len(head.payload) >= 19 else 0
    stream = tags.get("STREAM") or path.name.removesuffix(ENDING).partition(" ")[2] or path.name
    return Recording(
        id=recording_id(path.name),
        stream=stream,
        talker=tags.get("ARTIST") or stream,
        started_at=_started_at(tags.get("DATE"), path),
        seconds=round(max(0, last.position - pre_skip) / CLOCK_RATE_HZ, 3),
        bytes=size,
        state=State.FINISHED,
        rooms=_rooms(tags.get("ROOMS", "")),
        file=path.name,
    )


def _started_at(date: str | None, path: Path) -> str:
    try:
        return iso_time(datetime.fromisoformat(date or "").astimezone(UTC))
    except (ValueError, OverflowError):
        return iso_time(datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _rooms(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except msgspec.MsgspecError:
        return []


def _tags(packet: bytes) -> dict[str, str]:
    """RFC 7845 section 5.2; none from a packet that is damaged."""
    tags: dict[str, str] = {}
    try:
        if not packet.startswith(b"OpusTags"):
            return tags
        at = 8 + 4 + struct.unpack_from("<I", packet, 8)[0]
        (count,) = struct.unpack_from("<I", packet, at)
        at += 4
        for _ in range(min(count, 64)):
            (length,) = struct.unpack_from("<I", packet, at)
            name, _, value = packet[at + 4 : at + 4 + length].decode(errors="replace").partition("=")
            tags[name.upper()] = value
            at += 4 + length
    except struct.error:
        pass  # It ends in the middle: what was before counts.
    return tags


def repair(path: Path) -> Path | None:
    """Ends an unfinished file, left by a process that was killed, after its last whole page, and gives its new name.

    None, where it has no sound: then the file is removed. Raises OSError.
    """
    with path.open("r+b") as file:
        count, last = 0, None
        for page in pages(file):
            count, last = count + 1, page
        if last is not None and count > 2:
            file.truncate(last.end)
            file.seek(last.at)
            file.write(_ended(last.data))
            os.fsync(file.fileno())
    if last is None or count <= 2:
        path.unlink()
        return None
    finished = path.with_name(path.name.removesuffix(UNFINISHED_ENDING) + ENDING)
    path.rename(finished)
    return finished


def _ended(page: bytes) -> bytes:
    """The same as the last of its stream."""
    marked = bytearray(page)
    marked[_FLAGS_AT] |= _LAST_PAGE
    marked[_CHECKSUM] = bytes(4)
    marked[_CHECKSUM] = checksum(bytes(marked))
    return bytes(marked)
