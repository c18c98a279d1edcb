"""Recordings as files: what is in one, and how one that was cut off is repaired. Everything here blocks."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..media.ogg import MOST_PAGE_BYTES, Page, ended, last_page_in, page_at_begin
from ..media.opus import CLOCK_RATE_HZ
from .model import ENDING, UNFINISHED_ENDING, Recording, State, iso_time, recording_id

_HEADER_PAGES = 2
"""RFC 7845 section 3."""


class NotARecording(Exception):
    """The file is no Ogg file of Opus, or is cut off before its sound."""


def pages(file: BinaryIO) -> Iterator[tuple[int, Page]]:
    """Where each whole page begins, and the page, from the file's begin up to the first that is cut off or damaged."""
    at = 0
    while True:
        file.seek(at)
        page = page_at_begin(file.read(MOST_PAGE_BYTES))
        if page is None:
            return
        yield at, page
        at += len(page.data)


def read(path: Path) -> Recording:
    """What a finished file says of itself. Raises OSError, NotARecording."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        beginning = (page for _, page in pages(file))
        head, comments = next(beginning, None), next(beginning, None)
        file.seek(max(0, size - MOST_PAGE_BYTES))
        last = last_page_in(file.read(MOST_PAGE_BYTES))
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
        count, begin, last = 0, 0, b""
        for at, page in pages(file):
            count, begin, last = count + 1, at, page.data
        has_sound = count > _HEADER_PAGES
        if has_sound:
            file.truncate(begin + len(last))
            file.seek(begin)
            file.write(ended(last))
            os.fsync(file.fileno())
    if not has_sound:
        path.unlink()
        return None
    finished = path.with_name(path.name.removesuffix(UNFINISHED_ENDING) + ENDING)
    path.rename(finished)
    return finished
