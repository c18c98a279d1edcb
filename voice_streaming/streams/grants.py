"""What a client may do with streams."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass, field

from .names import name_key


class Scope(enum.Enum):
    SEND = "send"
    RECEIVE = "receive"
    RECORDINGS = "recordings"
    ADMIN = "admin"


@dataclass(frozen=True)
class Grant:
    """What a client may do, with which streams, and in which rooms. Names compare without case.

    `streams` None is all of them. `rooms` None is all of them where `streams` is None too, and else none: who may hear
    some streams alone may not hear what is said in rooms.
    """

    scopes: frozenset[Scope]
    streams: frozenset[str] | None = None
    rooms: frozenset[str] | None = None
    is_node: bool = False
    """Of another server of the cluster, which gets what is this server's own."""

    _keys: frozenset[str] = field(init=False, repr=False, compare=False)
    _room_keys: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The way to set a field of a frozen dataclass while it is made.
        object.__setattr__(self, "_keys", frozenset(name_key(name) for name in self.streams or ()))
        object.__setattr__(self, "_room_keys", frozenset(name_key(name) for name in self.rooms or ()))

    def covers(self, stream_id: str | None) -> bool:
        """Whether the stream is one of the grant's; None is a stream that has no name."""
        if self.streams is None:
            return True
        return stream_id is not None and name_key(stream_id) in self._keys

    def covers_voice(self, stream_id: str, room_keys: Collection[str]) -> bool:
        """Whether it is for this voice: of a voice for rooms, for one of those."""
        return any(map(self.covers_room, room_keys)) if room_keys else self.covers(stream_id)

    def covers_room(self, room_key: str) -> bool:
        """Whether the room, by its `name_key`, is one of the grant's."""
        if self.rooms is None:
            return self.streams is None
        return room_key in self._room_keys


EVERYTHING = Grant(frozenset(Scope))
