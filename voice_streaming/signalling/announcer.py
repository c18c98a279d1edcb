"""Announces changes of streams to every client that may know of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..recording.model import Recording
from ..recording.recorder import RecordingObserver
from ..streams.grants import Grant
from ..streams.registry import StreamObserver
from ..streams.rooms import Room, RoomObserver, Rooms
from ..streams.stream import Stream
from . import messages
from .client import Client


class Announcer(StreamObserver, RecordingObserver):
    """Sends a message to all clients for each change, and events to those that subscribed to them."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients

    def on_stream_live(self, stream: Stream) -> None:
        self._send(stream, messages.StreamAvailable(stream.id, stream.name), "live", name=stream.name)

    def on_stream_paused(self, stream: Stream) -> None:
        self._send(stream, messages.StreamPaused(stream.id), "paused")

    def on_stream_resumed(self, stream: Stream) -> None:
        self._send(stream, messages.StreamResumed(stream.id), "resumed")

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self._send(stream, messages.StreamEnded(stream.id, reason), "ended", reason=reason)

    def on_recording_started(self, stream: Stream, recording: Recording) -> None:
        self._send_recording("recording_started", recording, stream)

    def on_recording_ended(self, stream: Stream, recording: Recording) -> None:
        self._send_recording("recording_ended", recording, stream)

    def on_recording_failed(self, stream: Stream, reason: str) -> None:
        self._send_event(stream, "recording_failed", reason=reason)

    def on_recording_deleted(self, recording: Recording) -> None:
        self._send_recording("recording_deleted", recording)

    def _send(self, stream: Stream, message: messages.StreamMessage, kind: messages.EventKind, **facts: str) -> None:
        text = message.text
        for client in self._clients.values():
            if client.may_know(stream):
                client.ws.send(text)
        self._send_event(stream, kind, **facts)

    def _send_event(self, stream: Stream, kind: messages.EventKind, **facts: str) -> None:
        self._publish(kind, stream.id, lambda client: client.may_know_of_event(stream), **facts)

    def _send_recording(self, kind: messages.EventKind, recording: Recording, stream: Stream | None = None) -> None:
        def may_know(client: Client) -> bool:
            return client.may_know_of_recording(recording) or (stream is not None and client.may_know_of_event(stream))

        self._publish(kind, recording.stream, may_know, recording=recording.id)

    def _publish(
        self, kind: messages.EventKind, stream_id: str, may_know: Callable[[Client], bool], **facts: str
    ) -> None:
        event = messages.Event(kind, stream_id, round(time.time(), 3), **facts).text
        for client in self._clients.values():
            if kind in client.event_kinds and may_know(client):
                client.ws.send(event)


class RoomAnnouncer(RoomObserver):
    """Tells those who watch rooms what changes in those that they may know of."""

    def __init__(self, clients: Mapping[str, Client], rooms: Rooms) -> None:
        self._clients = clients
        self._rooms = rooms

    def on_room_changed(self, room: Room) -> None:
        texts: dict[Grant, str] = {}
        for client in self._watchers(room):
            if client.grant not in texts:
                texts[client.grant] = messages.RoomChanged(self._rooms.state(room, client.grant)).text
            client.ws.send(texts[client.grant])

    def on_room_forgotten(self, room: Room) -> None:
        for client in self._watchers(room):
            client.send(messages.RoomForgotten(room.id))

    def _watchers(self, room: Room) -> list[Client]:
        clients = self._clients.values()
        return [client for client in clients if client.watches_rooms and client.grant.covers_room(room.key)]
