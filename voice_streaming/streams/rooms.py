"""Rooms: places that voices are for, and that receivers and speakers stand in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from ..process.failures import Failures
from ..process.refusal import Refused
from ..process.timers import Timer
from .grants import EVERYTHING, Grant, Scope
from .names import name_key, stream_name
from .registry import StreamObserver
from .stream import Stream, live_voices

EVERYONE = "Everyone"
"""The room that is always there: voices that are for no room in particular."""
EVERYONE_KEY = name_key(EVERYONE)
ID_PREFIX = "room:"
"""Names hold no colon, so that a room and a voice may have the same name."""
NEWS_INTERVAL_S = 0.1
"""What changes in a room is told so much later, once for all of it: a crowd that joins is one piece of news."""
LONGEST_QUIET_S = 7 * 86_400.0
"""Beyond it, somebody forgot that a room hears nothing."""
FORGOTTEN_AFTER_S = 600.0
"""A room that nobody uses, and that the settings do not name."""


class VoiceIn(Struct, frozen=True):
    """A voice that is heard in a room."""

    stream_id: str
    name: str


class RoomState(Struct, frozen=True):
    """A room as clients are told of it; fields may be added."""

    room: str
    """Its id: `room:Kitchen`."""
    name: str
    receivers: int
    """WebRTC receivers that stand in it."""
    listeners: int
    """Players of its MP3."""
    voices: list[VoiceIn]
    """Who is heard there, of those that this client may know of; the newest last."""
    quiet_until: float | None
    """Unix seconds until when only urgent voices are heard there; None: nobody asked for that."""
    quiet_receivers: int
    """Receivers that do not want to be disturbed, of those in it."""
    exclusive: bool
    """One talks at a time."""


@dataclass(eq=False)
class Room:
    """One room and who stands in it."""

    name: str
    is_permanent: bool
    is_exclusive: bool
    receivers: dict[str, bool] = field(default_factory=dict)
    """Connection ids, and whether each wants not to be disturbed."""
    listeners: int = 0
    elsewhere: tuple[int, int] = (0, 0)
    """Receivers and listeners that stand in it on other servers of the cluster."""
    quiet_until_s: float | None = None
    """Monotonic."""
    used_s: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which somebody last used it."""

    def __post_init__(self) -> None:
        self.key = name_key(self.name)
        self.id = ID_PREFIX + self.name

    @property
    def is_quiet(self) -> bool:
        """Whether only urgent voices are heard in it."""
        return self.quiet_until_s is not None and self.quiet_until_s > time.monotonic()

    def hears(self, stream: Stream) -> bool:
        """Whether the voice is for it."""
        if self.is_quiet and not stream.urgent:
            return False
        return not stream.rooms or self.key in stream.room_keys


@dataclass(frozen=True)
class Audience:
    """Whom a voice is for."""

    rooms: tuple[str, ...] = ()
    """Names of rooms; none: everyone."""
    urgent: bool = False
    """Also where nobody is to be disturbed."""


EVERYBODY = Audience()


def bare_name(text: str) -> str:
    """The name in a room's id, or the text itself."""
    return text.removeprefix(ID_PREFIX)


class RoomObserver:
    """To be subclassed."""

    def on_room_changed(self, room: Room) -> None:
        """Its state is another one."""

    def on_room_quiet(self, room: Room, left_s: float) -> None:
        """Somebody asked here for quiet in it, for so long; 0: for no more of it."""

    def on_room_forgotten(self, room: Room) -> None:
        """Nobody uses it any more."""


class Rooms(StreamObserver):
    """All rooms: of the settings, and those that came about by use."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        names: Iterable[str] = (),
        exclusive: Iterable[str] = (),
        most: int = 100,
        failures: Failures | None = None,
    ) -> None:
        self._streams = streams
        self._most = most
        self._exclusive = frozenset(name_key(name) for name in exclusive)
        self._rooms: dict[str, Room] = {}
        self._observers: list[RoomObserver] = []
        self._on_selection: list[Callable[[], None]] = []
        self._changed: dict[Room, None] = {}
        failures = Failures() if failures is None else failures
        self._news = Timer("room-news", self._tell, failures)
        self._quiet = Timer("room-quiet", self._end_quiet, failures)
        for name in (EVERYONE, *names):
            self._add(stream_name(name), is_permanent=True)

    def observe(self, observer: RoomObserver) -> None:
        """Tells the observer of changes, NEWS_INTERVAL_S late."""
        self._observers.append(observer)

    def on_selection(self, call: Callable[[], None]) -> None:
        """Calls at once when other voices are heard in a room although no stream has changed."""
        self._on_selection.append(call)

    def find(self, name: str) -> Room | None:
        """The room of that name or id."""
        return self._rooms.get(name_key(bare_name(name)))

    def audience(self, names: Iterable[str], *, urgent: bool = False) -> Audience:
        """Those rooms, which come about if they are not there. Raises Refused as `use` does."""
        rooms = {room.key: room.name for room in map(self.use, names)}
        # Whoever speaks to everyone speaks to every room.
        return Audience(() if EVERYONE_KEY in rooms else tuple(rooms.values()), urgent)

    def use(self, name: str) -> Room:
        """That room, which comes about if it is not there. Raises Refused `bad_name` or `too_many_rooms`."""
        name = bare_name(name)
        room = self._rooms.get(name_key(name))
        if room is None:
            if len(self._rooms) >= self._most:
                raise Refused("too_many_rooms", f"There are {self._most} rooms: no more are taken now")
            room = self._add(stream_name(name), is_permanent=False)
        room.used_s = time.monotonic()
        return room

    def visible(self, grant: Grant = EVERYTHING) -> list[Room]:
        """Those that the grant covers, in the order in which they came about."""
        return [room for room in self._rooms.values() if grant.covers_room(room.key)]

    def state(self, room: Room, grant: Grant = EVERYTHING) -> RoomState:
        voices = live_voices(self._streams) if Scope.RECEIVE in grant.scopes else []
        left_s = None if room.quiet_until_s is None else room.quiet_until_s - time.monotonic()
        return RoomState(
            room=room.id,
            name=room.name,
            receivers=len(room.receivers) + room.elsewhere[0],
            listeners=room.listeners + room.elsewhere[1],
            voices=[
                VoiceIn(voice.id, voice.name)
                for voice in voices
                if room.hears(voice) and voice.may_be_heard_with(grant)
            ],
            quiet_until=None if left_s is None or left_s <= 0 else round(time.time() + left_s, 3),
            quiet_receivers=list(room.receivers.values()).count(True),
            exclusive=room.is_exclusive,
        )

    def enter(self, room: Room, connection_id: str, *, quiet: bool = False) -> None:
        """A receiver stands in it from now on; `quiet`: it does not want to be disturbed."""
        room.receivers[connection_id] = quiet
        self.note_change(room)

    def leave(self, room: Room, connection_id: str) -> None:
        """Safe to call twice."""
        if room.receivers.pop(connection_id, None) is not None:
            self.note_change(room)

    def do_not_disturb(self, room: Room, until_unix_s: float | None) -> None:
        """Only urgent voices are heard in it until then; None ends that."""
        left_s = 0.0 if until_unix_s is None else min(until_unix_s - time.time(), LONGEST_QUIET_S)
        self.be_quiet(room, left_s)
        for observer in self._observers:
            observer.on_room_quiet(room, max(left_s, 0.0))

    def be_quiet(self, room: Room, left_s: float) -> None:
        """Only urgent voices are heard in it for so long, as was asked for here or on another server."""
        room.quiet_until_s = time.monotonic() + left_s if left_s > 0 else None
        self._select(room)

    def note_elsewhere(self, presence: Mapping[str, tuple[int, int]]) -> None:
        """Who stands in rooms on other servers of the cluster: receivers and listeners, by the rooms' names."""
        by_key = {name_key(name): (name, counts) for name, counts in presence.items()}
        for key, (name, _) in by_key.items():
            if key not in self._rooms and len(self._rooms) < self._most:
                self._add(name, is_permanent=False)
        for room in self._rooms.values():
            _, counts = by_key.get(room.key, ("", (0, 0)))
            if room.elsewhere != counts:
                room.elsewhere = counts
                self.note_change(room)

    def check_free(self, room_names: Sequence[str], talker_id: str) -> None:
        """Raises Refused `room_busy` where one of the rooms is for one voice at a time, and another talks to it."""
        for name in room_names:
            room = self.find(name)
            if room is None or not room.is_exclusive:
                continue
            for stream in live_voices(self._streams):
                if room.key in stream.room_keys and stream.sender_id != talker_id:
                    raise Refused("room_busy", f"{stream.name} talks in {room.name}: one at a time does there")

    def forget_unused(self) -> None:
        """Forgets rooms that nobody used for FORGOTTEN_AFTER_S; to be called now and then."""
        before_s = time.monotonic() - FORGOTTEN_AFTER_S
        wanted = {key for stream in self._streams.values() for key in stream.room_keys}
        for room in list(self._rooms.values()):
            stands = room.receivers or room.listeners or any(room.elsewhere)
            is_used = room.is_permanent or stands or room.is_quiet or room.key in wanted
            if is_used:
                room.used_s = time.monotonic()
            elif room.used_s < before_s:
                del self._rooms[room.key]
                self._changed.pop(room, None)
                for observer in self._observers:
                    observer.on_room_forgotten(room)

    def close(self) -> None:
        """Tells nothing more."""
        self._news.cancel()
        self._quiet.cancel()

    def on_stream_live(self, stream: Stream) -> None:
        self._note_voice(stream)

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self._note_voice(stream)

    def note_change(self, room: Room) -> None:
        """Its observers are told soon."""
        room.used_s = time.monotonic()
        if not self._changed:
            self._news.set(asyncio.get_running_loop().time() + NEWS_INTERVAL_S)
        self._changed[room] = None

    def _add(self, name: str, *, is_permanent: bool) -> Room:
        key = name_key(name)
        return self._rooms.setdefault(key, Room(name, is_permanent, key in self._exclusive))

    def _note_voice(self, stream: Stream) -> None:
        for room in self._rooms.values():
            if not stream.rooms or room.key in stream.room_keys:
                self.note_change(room)

    def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        for room in changed:
            for observer in self._observers:
                observer.on_room_changed(room)

    def _select(self, room: Room) -> None:
        """Other voices are heard in it now, and perhaps again others when somebody wants to be disturbed again."""
        for call in self._on_selection:
            call()
        self.note_change(room)
        self._await_end_of_quiet()

    def _await_end_of_quiet(self) -> None:
        due = [room.quiet_until_s for room in self._rooms.values() if room.quiet_until_s is not None]
        if due:
            self._quiet.set(min(due))
        else:
            self._quiet.cancel()

    def _end_quiet(self) -> None:
        for room in list(self._rooms.values()):
            if room.quiet_until_s is not None and not room.is_quiet:
                room.quiet_until_s = None
                self._select(room)
        self._await_end_of_quiet()
