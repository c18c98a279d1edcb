"""What ties a connection to its peer and its stream: begun, taken over, lost and ended here alone."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from ..process.tasks import Tasks
from ..rtc import LEFT, ReceiverPeer, SenderPeer
from ..streams.registry import Streams
from ..streams.relay import FirstPacket, VoiceRelay
from ..streams.stream import Stream
from .connection import Connection, ConnectionState, Role

logger = logging.getLogger(__name__)

Client = Connection[Any, SenderPeer | ReceiverPeer]


class Notices(Protocol):
    """Tells a client what became of its media without its doing."""

    def stream_ended(self, client: Client, stream_id: str, reason: str) -> None: ...

    def connection_lost(self, client: Client, reason: str) -> None: ...


class Sessions:
    """The media of all connections. A peer that was replaced in the meantime changes nothing any more."""

    def __init__(
        self,
        relay: VoiceRelay,
        streams: Streams,
        connections: Mapping[str, Client],
        tasks: Tasks,
        connection_timeout_s: float,
        notices: Notices,
    ) -> None:
        self._relay = relay
        self._streams = streams
        self._connections = connections
        self._tasks = tasks
        self._connection_timeout_s = connection_timeout_s
        self._notices = notices

    def watch_sender(self, client: Client, peer: SenderPeer, stream: Stream) -> None:
        """What becomes of the peer is told to its client, stream and registry from now on."""
        peer.on_connected = functools.partial(self._on_sender_connected, client, peer, stream)
        peer.on_gone = functools.partial(self._on_gone, client, peer)

    def watch_receiver(self, client: Client, peer: ReceiverPeer, stream: Stream) -> None:
        """The same for a receiver."""
        peer.on_connected = functools.partial(self._on_receiver_connected, client, peer, stream)
        peer.on_gone = functools.partial(self._on_gone, client, peer)

    async def replace_peer(self, client: Client, peer: SenderPeer | ReceiverPeer) -> None:
        """Makes `peer` the client's, which has `webrtc.connection_timeout` to connect."""
        previous, client.pc = client.pc, peer
        client.advance(ConnectionState.READY)
        peer.connect_within(self._connection_timeout_s)
        if previous is not None:
            await previous.close()

    async def release(self, client: Client, reason: str, *, may_resume: bool = False) -> None:
        """Takes the client's role and media from it. Its socket stays; what it sent ends with `reason`.

        With `may_resume` a stream with a name waits for its sender to come back.
        """
        peer = self._detach(client, reason, may_resume)
        if peer is not None:
            await peer.close()

    def drop(self, client: Client, reason: str) -> None:
        """The same for callers that cannot wait for the peer to close."""
        self._close_later(client, self._detach(client, reason, may_resume=False))

    def _on_sender_connected(self, client: Client, peer: SenderPeer, stream: Stream) -> None:
        if client.pc is not peer:
            return
        if self._streams.active.get(stream.id) is not stream:
            # It ended since the offer was answered.
            self._notices.stream_ended(client, stream.id, "sender left")
            self.drop(client, "sender left")
            return
        if stream.sender_id != client.id:
            self._take_over(client, stream)
        client.advance(ConnectionState.CONNECTED)
        FirstPacket(self._relay, stream.track, functools.partial(self._on_sender_packet, client, peer, stream))

    def _on_sender_packet(self, client: Client, peer: SenderPeer, stream: Stream) -> None:
        if client.pc is peer:
            client.advance(ConnectionState.STREAMING)
            self._streams.resume(stream)

    def _take_over(self, client: Client, stream: Stream) -> None:
        """Another connection has media for the stream, under its name: it is the sender now, and the stream goes on."""
        previous = self._connections.get(stream.sender_id)
        stream.sender_id = client.id
        if previous is not None and previous.role is Role.SENDER and previous.stream_id == stream.id:
            logger.info("Stream %s: another sender took over", ascii(stream.id))
            self._notices.stream_ended(previous, stream.id, "replaced")
            self.drop(previous, "replaced")

    def _on_receiver_connected(self, client: Client, peer: ReceiverPeer, stream: Stream) -> None:
        if client.pc is peer:
            client.advance(ConnectionState.CONNECTED)
            FirstPacket(self._relay, stream.track, functools.partial(self._on_receiver_packet, client, peer))

    def _on_receiver_packet(self, client: Client, peer: ReceiverPeer) -> None:
        if client.pc is peer:
            client.advance(ConnectionState.STREAMING)

    def _on_gone(self, client: Client, peer: SenderPeer | ReceiverPeer, reason: str) -> None:
        if client.pc is not peer:
            return
        logger.debug("Connection %s: media lost: %s", client.id, reason)
        if reason != LEFT:
            self._notices.connection_lost(client, reason)
        stream = self._streams.active.get(client.stream_id or "")
        if client.role is Role.SENDER and client.name is not None and stream is not None and stream.is_live:
            # Its socket is there: the next offer goes on with the stream, stop_stream ends it.
            client.pc = None
            client.advance(ConnectionState.READY)
            self._close_later(client, peer)
            if stream.sender_id == client.id:
                self._streams.pause(stream, "sender lost")
        else:
            self.drop(client, "sender left" if reason == LEFT else "sender lost")

    def _detach(self, client: Client, reason: str, may_resume: bool) -> SenderPeer | ReceiverPeer | None:
        peer, client.pc = client.pc, None
        role, client.role = client.role, None
        stream = self._streams.active.get(client.stream_id or "")
        client.stream_id, client.awaits_answer = None, False
        if client.state is not ConnectionState.CLOSED:
            client.advance(ConnectionState.CREATED)
        if stream is not None and role is Role.RECEIVER:
            stream.receivers.discard(client.id)
            stream.last_activity = time.monotonic()
        elif stream is not None and role is Role.SENDER and stream.sender_id == client.id:
            if may_resume and client.name is not None:
                self._streams.pause(stream, reason)
            else:
                self._streams.end(stream, reason)
        return peer

    def _close_later(self, client: Client, peer: SenderPeer | ReceiverPeer | None) -> None:
        if peer is not None:
            self._tasks.spawn(peer.close(), f"close-peer-{client.id}")
