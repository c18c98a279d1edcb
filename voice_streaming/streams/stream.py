"""A stream: one voice, its states, and its public description."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from .grants import EVERYTHING, Grant
from .names import name_key
from .track import OpusTrack

logger = logging.getLogger(__name__)


class StreamDetails(Struct, frozen=True):
    """A stream as in `available_streams` and `GET /stream/status`; fields may be added."""

    stream_id: str
    name: str
    started_at: float
    receivers: int
    listeners: int
    state: str
    paused: bool = False
    via: str = ""
    rooms: list[str] = msgspec.field(default_factory=list)
    """Names of the rooms that it is for; none: everyone."""
    recording: bool = False
    """It is being recorded."""
    node: str = ""
    """In a cluster, the name of the server that its sender is with."""


class StreamState(enum.Enum):
    CREATED = "created"
    """The sender's track exists; no packet has arrived."""
    ACTIVE = "active"
    """Announced; receivers may subscribe."""
    ENDED = "ended"
    REMOVED = "removed"


_STREAM_STEPS = {
    StreamState.CREATED: {StreamState.ACTIVE, StreamState.ENDED},
    StreamState.ACTIVE: {StreamState.ENDED},
    StreamState.ENDED: {StreamState.REMOVED},
    StreamState.REMOVED: set(),
}


class InvalidTransition(Exception):
    """The state cannot follow the present one: a defect of the caller."""


@dataclass(eq=False)
class Stream:
    """One voice. `track`, `receivers`, `sender_id` and `last_activity` are the architecture's names."""

    id: str
    name: str
    track: OpusTrack
    sender_id: str
    """Connection id of its sender; empty where that is with another server."""
    state: StreamState = StreamState.CREATED
    started_at: float = field(default_factory=time.time)
    """Unix seconds at which its first packet arrived."""
    started_s: float = field(default_factory=time.monotonic)
    """The same time in monotonic seconds."""
    receivers: set[str] = field(default_factory=set)
    """Connection ids of its WebRTC receivers."""
    listeners: int = 0
    """Players of its MP3 and its Ogg."""
    elsewhere: tuple[int, int] = (0, 0)
    """Its receivers and players at other servers of the cluster."""
    consumers: set[object] = field(default_factory=set)
    """Who takes it in another way: meters and the like."""
    last_activity: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which somebody last consumed it."""
    paused: bool = False
    """Its sender is silent, or lost and may come back."""
    resume_digest: bytes = field(default=b"", repr=False)
    """Of the key with which its sender may take it up again; never shown."""
    via: str = "server"
    """The way its sender came."""
    permanent: bool = False
    """The server's own: kept when nobody listens, and no client's to take over."""
    rooms: tuple[str, ...] = ()
    """Names of the rooms that it is for; none: everyone. Set before it is live."""
    urgent: bool = False
    """Heard also where nobody is to be disturbed."""
    is_recorded: bool = False
    """Whoever talks or listens is to know that."""
    node: str = ""
    """In a cluster, the name of the server that its sender is with."""
    is_remote: bool = False
    """Whether that is another one."""
    is_reserved: bool = False
    """It is not live, and its name is kept for a sender that is connected and not talking now."""
    key: str = field(init=False)
    """The id as it compares with others: see `name_key`."""

    def __post_init__(self) -> None:
        self.key = name_key(self.id)

    def advance(self, state: StreamState) -> None:
        """The only method that changes the state. Raises InvalidTransition."""
        if state not in _STREAM_STEPS[self.state]:
            raise InvalidTransition(f"stream {self.id}: {self.state.value} -> {state.value}")
        logger.debug("Stream %s: %s -> %s", self.id, self.state.value, state.value)
        self.state = state
        if state is StreamState.ACTIVE:
            self.started_at, self.started_s = time.time(), time.monotonic()

    def details(self) -> StreamDetails:
        return StreamDetails(
            stream_id=self.id,
            name=self.name,
            started_at=self.started_at,
            receivers=self.receiver_count,
            listeners=self.listener_count,
            state=self.state.value,
            paused=self.paused,
            via=self.via,
            rooms=list(self.rooms),
            recording=self.is_recorded,
            node=self.node,
        )

    @property
    def receiver_count(self) -> int:
        """At all servers."""
        return len(self.receivers) + self.elsewhere[0]

    @property
    def listener_count(self) -> int:
        """At all servers."""
        return self.listeners + self.elsewhere[1]

    @property
    def room_keys(self) -> frozenset[str]:
        return frozenset(name_key(room) for room in self.rooms)

    def may_be_heard_with(self, grant: Grant) -> bool:
        """Whether the grant is for this voice: of a voice for rooms, for one of those."""
        return grant.covers_voice(self.id, self.room_keys)

    @property
    def is_live(self) -> bool:
        return self.state is StreamState.ACTIVE

    @property
    def is_held(self) -> bool:
        """Whether its name is somebody's."""
        return self.is_live or self.is_reserved

    @property
    def is_consumed(self) -> bool:
        """Whether somebody takes it, in whatever way."""
        return bool(self.receivers or self.listeners or self.consumers)


def find(streams: Mapping[str, Stream], stream_id: str | None) -> Stream | None:
    """The stream that the id means, in whatever case it is written; None is no id. The one way to look up a stream."""
    if stream_id is None:
        return None
    if stream_id in streams:
        return streams[stream_id]
    key = name_key(stream_id)
    return next((stream for stream in streams.values() if stream.key == key), None)


def live_streams(streams: Mapping[str, Stream], grant: Grant = EVERYTHING) -> list[Stream]:
    """The live streams for everyone that the grant covers, in the order in which they started (by the monotonic clock).

    Those for rooms are not among them: clients that do not know of rooms never meet one.
    """
    return [stream for stream in live_voices(streams) if not stream.rooms and grant.covers(stream.id)]


def live_voices(streams: Mapping[str, Stream]) -> list[Stream]:
    """All live streams, those for rooms included, in the order in which they started."""
    return sorted((stream for stream in streams.values() if stream.is_live), key=lambda stream: stream.started_s)


def newest(streams: Mapping[str, Stream], grant: Grant = EVERYTHING) -> Stream | None:
    """The live stream for everyone that started last, of those that the grant covers, or None."""
    return next(reversed(live_streams(streams, grant)), None)
