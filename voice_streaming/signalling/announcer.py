"""Announces changes of streams to every client that may know of them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..streams.registry import StreamObserver
from ..streams.stream import Stream
from . import messages
from .client import Client


class Announcer(StreamObserver):
    """Sends a message to all clients for each change, and events to those that subscribed to them."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients

    def on_stream_live(self, stream: Stream) -> None:
        self._send(messages.StreamAvailable(stream.id, stream.name), "live", name=stream.name)

    def on_stream_paused(self, stream: Stream) -> None:
        self._send(messages.StreamPaused(stream.id), "paused")

    def on_stream_resumed(self, stream: Stream) -> None:
        self._send(messages.StreamResumed(stream.id), "resumed")

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self._send(messages.StreamEnded(stream.id, reason), "ended", reason=reason)

    def _send(self, message: messages.StreamMessage, kind: messages.EventKind, **facts: str) -> None:
        text = message.text
        event = messages.Event(kind, message.stream_id, round(time.time(), 3), **facts).text
        for client in self._clients.values():
            if client.may_know(message.stream_id):
                client.ws.send(text)
                if kind in client.event_kinds:
                    client.ws.send(event)
