"""What clients are told without having asked."""

from __future__ import annotations

from ..sessions.sessions import Client
from . import messages


class WebSocketNotices:
    """Tells a client, over its socket, what became of its media without its doing."""

    def stream_ended(self, client: Client, stream_id: str, reason: str) -> None:
        client.ws.send(messages.StreamEnded(stream_id, reason).text)

    def connection_lost(self, client: Client, reason: str) -> None:
        client.ws.send(messages.Error("connection_lost", f"The WebRTC connection is lost: {reason}").text)
