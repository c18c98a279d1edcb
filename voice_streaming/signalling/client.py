"""A client that is connected by a WebSocket."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..rtc import LEFT
from ..sessions.connection import Connection
from ..sessions.states import Role
from ..streams.grants import EVERYTHING, Grant, Scope
from ..streams.stream import Stream
from . import messages
from .outbox import Outbox


class Client(Connection):
    """One signalling socket; `ws` is its writing side."""

    def __init__(self, ws: Outbox, grant: Grant = EVERYTHING, address: str = "") -> None:
        super().__init__(grant, address)
        self.ws = ws
        self.meters: dict[str, Callable[[str], None]] = {}
        """By stream id: what is called with each `audio_data` that was subscribed to."""
        self.event_kinds: frozenset[str] = frozenset()
        """Of which kinds it gets events."""
        self.heard_s = time.monotonic()
        """Monotonic seconds at which it last said something."""

    def may_know(self, stream_id: str) -> bool:
        """Whether it is told of the stream: one that it may receive, as at `/stream/status`, or its own."""
        is_own = self.role is Role.SENDER and stream_id == self.stream_id
        return is_own or (Scope.RECEIVE in self.grant.scopes and self.grant.covers(stream_id))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked for by it but its socket."""
        return self.session is None and not self.meters and not self.event_kinds

    def send(self, message: messages.ServerMessage) -> None:
        self.ws.send(message.text)

    def on_media_lost(self, reason: str) -> None:
        if reason != LEFT:
            self.send(messages.Error("connection_lost", f"The WebRTC connection is lost: {reason}"))

    def on_stream_ended(self, stream_id: str, reason: str) -> None:
        self.send(messages.StreamEnded(stream_id, reason))

    def on_talking(self, stream: Stream) -> None:
        self.send(messages.Talking(stream.is_live, stream.id, len(stream.receivers), stream.listeners))

    def on_fed(self, stream: Stream | None) -> None:
        fed = (None, None) if stream is None else (stream.id, stream.name)
        self.send(messages.Receiving(*fed))
