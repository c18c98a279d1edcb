"""What a client may do with streams."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Scope(enum.Enum):
    SEND = "send"
    RECEIVE = "receive"
    ADMIN = "admin"


@dataclass(frozen=True)
class Grant:
    """What a client may do, and with which streams; `streams` None is all of them."""

    scopes: frozenset[Scope]
    streams: frozenset[str] | None = None

    def covers(self, stream_id: str | None) -> bool:
        """Whether the stream is one of the grant's; None is a stream that has no name."""
        return self.streams is None or stream_id in self.streams


EVERYTHING = Grant(frozenset(Scope))
