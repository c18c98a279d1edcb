"""What the two registries hold: connections (signalling sockets) and streams, each with its states."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .access import EVERYTHING, Grant
from .messages import StreamDetails

if TYPE_CHECKING:
    from .outbox import Outbox
    from .relay import OpusTrack

logger = logging.getLogger(__name__)


class ConnectionState(enum.Enum):
    CREATED = "created"
    """The WebSocket is open; no role."""
    READY = "ready"
    """A role is assigned."""
    CONNECTED = "connected"
    """ICE and DTLS are done."""
    STREAMING = "streaming"
    """Audio flows."""
    CLOSED = "closed"


class StreamState(enum.Enum):
    CREATED = "created"
    """The sender's track exists; no packet has come."""
    ACTIVE = "active"
    """Announced; receivers may subscribe."""
    ENDED = "ended"
    REMOVED = "removed"


class Role(enum.Enum):
    SENDER = "sender"
    RECEIVER = "receiver"


_CONNECTION_STEPS = {
    # `stop_stream` leads back to CREATED, a superseding request back to READY.
    ConnectionState.CREATED: {ConnectionState.READY, ConnectionState.CLOSED},
    ConnectionState.READY: {ConnectionState.CREATED, ConnectionState.CONNECTED, ConnectionState.CLOSED},
    ConnectionState.CONNECTED: {
        ConnectionState.CREATED,
        ConnectionState.READY,
        ConnectionState.STREAMING,
        ConnectionState.CLOSED,
    },
    ConnectionState.STREAMING: {ConnectionState.CREATED, ConnectionState.READY, ConnectionState.CLOSED},
    ConnectionState.CLOSED: set(),
}

_STREAM_STEPS = {
    StreamState.CREATED: {StreamState.ACTIVE, StreamState.ENDED},
    StreamState.ACTIVE: {StreamState.ENDED},
    StreamState.ENDED: {StreamState.REMOVED},
    StreamState.REMOVED: set(),
}


class InvalidTransition(Exception):
    """A record was asked for a state that does not follow its own: a defect of the caller."""


class Peer(Protocol):
    """What a connection holds of its WebRTC peer, whichever its direction."""

    def close(self) -> Coroutine[Any, Any, None]: ...


PeerT = TypeVar("PeerT", bound=Peer)


@dataclass(eq=False)
class Connection(Generic[PeerT]):
    """One signalling socket. `ws`, `pc`, `role` and `stream_id` are the architecture's names."""

    id: str
    ws: Outbox
    pc: PeerT | None = None
    role: Role | None = None
    stream_id: str | None = None
    name: str | None = None
    """What a sender called its stream."""
    state: ConnectionState = ConnectionState.CREATED
    awaits_answer: bool = False
    """An offer went out to the receiver, and no answer came yet."""
    pictures: dict[str, Callable[[str], None]] = field(default_factory=dict)
    """By stream id: what is called with each `audio_data` that was subscribed to."""
    grant: Grant = EVERYTHING
    heard_s: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which its client last said something."""

    def advance(self, state: ConnectionState) -> None:
        """The one door for a change of state; a step to the present state is none. Raises InvalidTransition."""
        if state is self.state:
            return
        if state not in _CONNECTION_STEPS[self.state]:
            raise InvalidTransition(f"connection {self.id}: {self.state.value} -> {state.value}")
        logger.debug("Connection %s: %s -> %s", self.id, self.state.value, state.value)
        self.state = state


@dataclass(eq=False)
class Stream:
    """One voice. `track`, `receivers`, `sender_id` and `last_activity` are the architecture's names."""

    id: str
    name: str
    track: OpusTrack
    sender_id: str
    state: StreamState = StreamState.CREATED
    started_at: float = field(default_factory=time.time)
    """Unix seconds at which its first packet came."""
    started_s: float = field(default_factory=time.monotonic)
    """The same moment in monotonic seconds."""
    receivers: set[str] = field(default_factory=set)
    """Connection ids of its WebRTC receivers."""
    listeners: int = 0
    """Players of its MP3."""
    last_activity: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which somebody last received or listened."""
    paused: bool = False
    """Its sender is lost and may come back."""
    permanent: bool = False
    """The server's own: kept when nobody listens."""

    def advance(self, state: StreamState) -> None:
        """The one door for a change of state. Raises InvalidTransition."""
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
            receivers=len(self.receivers),
            listeners=self.listeners,
            state=self.state.value,
            paused=self.paused,
        )

    @property
    def is_live(self) -> bool:
        return self.state is StreamState.ACTIVE


def live_streams(streams: dict[str, Stream], grant: Grant = EVERYTHING) -> list[Stream]:
    """The live streams that the grant covers, in the order in which they started, whatever the wall clock said."""
    live = (stream for stream in streams.values() if stream.is_live and grant.covers(stream.id))
    return sorted(live, key=lambda stream: stream.started_s)


def newest(streams: dict[str, Stream], grant: Grant = EVERYTHING) -> Stream | None:
    """The live stream that started last, of those that the grant covers, or None."""
    return next(reversed(live_streams(streams, grant)), None)
