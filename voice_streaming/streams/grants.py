"""What a client may do with streams."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .names import name_key


class Scope(enum.Enum):
    SEND = "send"
    RECEIVE = "receive"
    ADMIN = "admin"


@dataclass(frozen=True)
class Grant:
    """What a client may do, and with which streams; `streams` None is all of them. Names compare without case."""

    scopes: frozenset[Scope]
    streams: frozenset[str] | None = None

    _keys: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The way to set a field of a frozen dataclass while it is made.
        object.__setattr__(self, "_keys", frozenset(name_key(name) for name in self.streams or ()))

    def covers(self, stream_id: str | None) -> bool:
        """Whether the stream is one of the grant's; None is a stream that has no name."""
        if self.streams is None:
            return True
        return stream_id is not None and name_key(stream_id) in self._keys


EVERYTHING = Grant(frozenset(Scope))
