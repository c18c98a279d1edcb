"""A client that is connected by a WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ..recording.model import Recording
from ..rtc import LEFT
from ..sessions.connection import Connection
from ..sessions.states import Role
from ..sessions.subscribe_session import SubscribeSession
from ..streams.grants import EVERYTHING, Grant, Scope
from ..streams.rooms import Room, VoiceIn
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
        self.watches_rooms = False
        self.quiet_timer: asyncio.TimerHandle | None = None
        """Until when it is not to be disturbed."""
        self.heard_s = time.monotonic()
        """Monotonic seconds at which it last said something."""

    def may_know(self, stream: Stream) -> bool:
        """Whether it is told of the stream: one for everyone that it may receive, its own, or the one that it chose."""
        is_chosen = self.role is Role.SENDER or isinstance(self.session, SubscribeSession)
        return (is_chosen and stream.id == self.stream_id) or (
            Scope.RECEIVE in self.grant.scopes and not stream.rooms and self.grant.covers(stream.id)
        )

    def may_know_of_event(self, stream: Stream) -> bool:
        """The same for events, which tell those who watch rooms of voices for rooms as well."""
        is_told = self.watches_rooms and Scope.RECEIVE in self.grant.scopes and stream.may_be_heard_with(self.grant)
        return is_told or self.may_know(stream)

    def may_know_of_recording(self, recording: Recording) -> bool:
        """Whether it is told of a recording, whose stream may be gone: by a token for recordings, or as of a stream."""
        scopes = self.grant.scopes
        is_receiver = Scope.RECEIVE in scopes and (self.watches_rooms or not recording.rooms)
        is_told = is_receiver or bool(scopes & {Scope.RECORDINGS, Scope.ADMIN})
        return is_told and recording.may_be_heard_with(self.grant)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked for by it but its socket."""
        return self.session is None and not (self.meters or self.event_kinds or self.watches_rooms)

    def end_quiet_with(self, timer: asyncio.TimerHandle | None) -> None:
        """That timer in place of the one before, which is cancelled; None: it does not end by itself."""
        if self.quiet_timer is not None:
            self.quiet_timer.cancel()
        self.quiet_timer = timer

    def send(self, message: messages.ServerMessage) -> None:
        self.ws.send(message.text)

    def on_media_lost(self, reason: str) -> None:
        if reason != LEFT:
            self.send(messages.Error("connection_lost", f"The WebRTC connection is lost: {reason}"))

    def on_stream_ended(self, stream_id: str, reason: str) -> None:
        self.send(messages.StreamEnded(stream_id, reason))

    def on_talking(self, stream: Stream) -> None:
        self.send(messages.Talking(stream.is_live, stream.id, stream.receiver_count, stream.listener_count))

    def on_fed(self, room: Room | None, voices: Sequence[Stream], shared: bool) -> None:
        newest_id, newest_name = (voices[-1].id, voices[-1].name) if voices else (None, None)
        heard = [VoiceIn(voice.id, voice.name) for voice in voices]
        self.send(messages.Receiving(newest_id, newest_name, heard, None if room is None else room.id, shared))
