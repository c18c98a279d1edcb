"""The states and roles of connections."""

from __future__ import annotations

import enum


class ConnectionState(enum.Enum):
    CREATED = "created"
    """It is there; no role."""
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


NEXT_STATES = {
    # `stop_stream` leads back to CREATED, a superseding request back to READY.
    ConnectionState.CREATED: {ConnectionState.READY, ConnectionState.CLOSED},
    ConnectionState.READY: {ConnectionState.CREATED, ConnectionState.CONNECTED, ConnectionState.CLOSED},
    ConnectionState.CONNECTED: {
        ConnectionState.CREATED,
        ConnectionState.READY,
        ConnectionState.STREAMING,
        ConnectionState.CLOSED,
    },
    # A sender that stops talking stays connected.
    ConnectionState.STREAMING: {
        ConnectionState.CREATED,
        ConnectionState.READY,
        ConnectionState.CONNECTED,
        ConnectionState.CLOSED,
    },
    ConnectionState.CLOSED: set(),
}
