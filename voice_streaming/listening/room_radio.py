"""Rooms for players: what is heard in a room, as if it were a stream that does not end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..streams.feed import Feeds, Selection
from ..streams.grants import Grant
from ..streams.rooms import Room, Rooms
from ..streams.stream import Stream


class _Radio:
    """One room's, for players with one grant; a follower of the room's feed while it has any."""

    def __init__(self, feeds: Feeds, room: Room, grant: Grant) -> None:
        self.id = f"mp3:{room.id}:{id(self)}"
        self.room = room
        self.players = 0
        self._feeds = feeds
        self._feed = feeds.join(Selection(grant=grant, room=room), self)
        self.stream = Stream(room.id, room.name, self._feed.track, self.id)

    def on_fed(self, voices: Sequence[Stream]) -> None:
        """A no-op: the feed's track goes on."""

    def close(self) -> None:
        self._feeds.leave(self._feed, self)


class RoomRadios:
    """The rooms that somebody plays."""

    def __init__(self, feeds: Feeds, rooms: Rooms) -> None:
        self._feeds = feeds
        self._rooms = rooms
        self._radios: dict[tuple[Room, Grant], _Radio] = {}

    @contextmanager
    def playing(self, name: str, grant: Grant) -> Iterator[Stream]:
        """The room's stream, for a player that is there while the block runs. Raises Refused as `Rooms.use` does."""
        room = self._rooms.use(name)
        radio = self._radios.get((room, grant))
        if radio is None:
            radio = self._radios[room, grant] = _Radio(self._feeds, room, grant)
        self._count(radio, 1)
        try:
            yield radio.stream
        finally:
            self._count(radio, -1)
            if not radio.players:
                del self._radios[room, grant]
                radio.close()

    def _count(self, radio: _Radio, change: int) -> None:
        radio.players += change
        radio.room.listeners += change
        self._rooms.note_change(radio.room)
