"""What `GET /api/recordings` asks for, and the part of the list that it gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from ..process.refusal import Refused
from ..recording.model import Recording, iso_time
from ..streams.names import name_key

MOST_LISTED = 200
USUALLY_LISTED = 50
_KNOWN = {"stream", "since", "until", "limit", "cursor", "token"}

Position = tuple[str, str]
"""Where a recording stands in the list: its begin and its id."""


class Query(Struct, frozen=True):
    """Times as in `Recording.started_at`."""

    stream: str = ""
    """Part of the stream's or the talker's name, as `name_key`."""
    since: str = ""
    until: str = ""
    limit: int = USUALLY_LISTED
    cursor: Position | None = None
    """Only what is older than that."""


def query_of(asked: Mapping[str, str]) -> Query:
    """Raises Refused `bad_request`."""
    if unknown := set(asked) - _KNOWN:
        raise Refused("bad_request", f"?{min(unknown)[:50]}= is not known: there are {', '.join(sorted(_KNOWN))}")
    return Query(
        stream=name_key(asked.get("stream", "")[:200]),
        since=_time("since", asked),
        until=_time("until", asked),
        limit=_limit(asked.get("limit", str(USUALLY_LISTED))),
        cursor=_cursor(asked.get("cursor")),
    )


def page_of(recordings: Iterable[Recording], query: Query) -> tuple[list[Recording], str | None]:
    """The newest first, and the cursor of those that follow; None, where there are no more."""
    found = sorted((recording for recording in recordings if _matches(recording, query)), key=_position, reverse=True)
    page = found[: query.limit]
    return page, ".".join(_position(page[-1])) if len(found) > query.limit else None


def _position(recording: Recording) -> Position:
    return recording.started_at, recording.id


def _matches(recording: Recording, query: Query) -> bool:
    if query.cursor is not None and _position(recording) >= query.cursor:
        return False
    if query.since and recording.started_at < query.since:
        return False
    if query.until and recording.started_at >= query.until:
        return False
    return query.stream in name_key(recording.stream) or query.stream in name_key(recording.talker)


def _time(key: str, asked: Mapping[str, str]) -> str:
    text = asked.get(key)
    if text is None:
        return ""
    try:
        at = datetime.fromisoformat(text)
        return iso_time(at.replace(tzinfo=UTC) if at.tzinfo is None else at)
    except (ValueError, OverflowError):
        raise Refused("bad_request", f"?{key}= is to be a time such as 2026-11-25T14:03:22Z") from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST_LISTED):
        raise Refused("bad_request", f"?limit= is to be 1 to {MOST_LISTED}")
    return int(text)


def _cursor(text: str | None) -> Position | None:
    if text is None:
        return None
    started_at, dot, recording_id = text.partition(".")
    if not dot or len(text) > 100:
        raise Refused("bad_request", "?cursor= is to be what the last answer gave")
    return started_at, recording_id
