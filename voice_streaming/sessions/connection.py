"""A signalling connection: its states, its role and what it holds."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..streams.grants import EVERYTHING, Grant
from ..streams.stream import InvalidTransition

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


class Peer(Protocol):
    """What a connection holds of its WebRTC peer, whichever its direction."""

    def close(self) -> Coroutine[Any, Any, None]: ...


WsT = TypeVar("WsT")
PeerT = TypeVar("PeerT", bound=Peer)


@dataclass(eq=False)
class Connection(Generic[WsT, PeerT]):
    """One signalling socket. `ws` (its writing side), `pc`, `role` and `stream_id` are the architecture's names."""

    id: str
    ws: WsT
    pc: PeerT | None = None
    role: Role | None = None
    stream_id: str | None = None
    name: str | None = None
    """What a sender called its stream."""
    state: ConnectionState = ConnectionState.CREATED
    awaits_answer: bool = False
    """An offer went out to the receiver, and no answer came yet."""
    meters: dict[str, Callable[[str], None]] = field(default_factory=dict)
    """By stream id: what is called with each `audio_data` that was subscribed to."""
    grant: Grant = EVERYTHING
    heard_s: float = field(default_factory=time.monotonic)
    """Monotonic seconds at which its client last said something."""

    def advance(self, state: ConnectionState) -> None:
        """The only place where the state changes; a step to the present state is none. Raises InvalidTransition."""
        if state is self.state:
            return
        if state not in _CONNECTION_STEPS[self.state]:
            raise InvalidTransition(f"connection {self.id}: {self.state.value} -> {state.value}")
        logger.debug("Connection %s: %s -> %s", self.id, self.state.value, state.value)
        self.state = state
