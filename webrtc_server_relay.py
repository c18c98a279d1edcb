"""The relay's server: signalling over WebSockets, the registries of connections and streams, pages, and `main`.

Run it: `python webrtc_server_relay.py --help`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from audio_stream_server import AudioStreamServer

from voice_streaming import command_line, messages, metrics
from voice_streaming.command_line import StartError
from voice_streaming.config import Settings
from voice_streaming.demo import DEMO_STREAM_ID, DemoSender
from voice_streaming.opus import OpusPacket
from voice_streaming.outbox import Outbox
from voice_streaming.peers import Peers, ReceiverPeer, SenderPeer
from voice_streaming.refusal import Refused
from voice_streaming.registry import Connection, ConnectionState, Role, Stream, StreamState, newest
from voice_streaming.relay import OpusTrack, VoiceRelay
from voice_streaming.tasks import Tasks

logger = logging.getLogger("voice_streaming.server")

STATIC_FOLDER = Path(__file__).parent / "static"
REMEMBERED_ENDS = 64
"""Ids of ended streams that are still told apart from ids that never were."""

Client = Connection[SenderPeer | ReceiverPeer]


class FirstPacket:
    """A sink that calls back at a track's next packet, once."""

    def __init__(self, relay: VoiceRelay, track: OpusTrack, call: Callable[[], None]) -> None:
        self._relay, self._track, self._call = relay, track, call
        relay.attach(track, self)

    def on_packet(self, packet: OpusPacket) -> None:
        self._relay.detach(self._track, self)
        self._call()

    def on_end(self) -> None:
        """The packet never came."""


class VoiceStreamingServer:
    """Holds both registries; runs signalling, the relay and the MP3 server on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connections: dict[str, Client] = {}
        self.active_streams: dict[str, Stream] = {}
        self.relay = VoiceRelay()
        self.peers = Peers(settings.webrtc, self.relay)
        self.audio_server = AudioStreamServer(settings, self.relay, self.active_streams)
        self.too_slow = 0
        """WebSockets that were closed because they did not read."""
        self._ended_ids: deque[str] = deque(maxlen=REMEMBERED_ENDS)
        self._ended_bytes = 0
        self._started_s = time.monotonic()
        self._tasks = Tasks()
        self._stop_requested = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._acts: dict[type, Callable[[Client, Any], Awaitable[None]]] = {
            messages.StartSending: self.setup_sender,
            messages.WebrtcOffer: self.handle_webrtc_offer,
            messages.StartReceiving: self.setup_receiver,
            messages.WebrtcAnswer: self.handle_webrtc_answer,
            messages.IceCandidate: self.handle_ice_candidate,
            messages.GetAvailableStreams: self.send_available_streams,
            messages.StopStream: self.stop_stream,
            messages.SubscribeVisualization: self.process_visualization,
            messages.UnsubscribeVisualization: self.stop_visualization,
        }

    # Lifecycle

    async def run_server(self, demo: bool = False) -> None:
        """Serves until SIGTERM or SIGINT, then stops cleanly; a second signal exits at once. Raises StartError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self.start(demo)
            await self._stop_requested.wait()
        finally:
            await self.stop()

    async def start(self, demo: bool = False) -> None:
        """Opens both ports. Raises StartError when one cannot be had."""
        server, audio = self.settings.server, self.settings.audio
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=server.shutdown_timeout_s)
        await self._runner.setup()
        await _open("--port", server.host, server.port, web.TCPSite(self._runner, server.host, server.port).start)
        await _open("--audio-port", server.host, audio.port, self.audio_server.start)
        self._tasks.spawn(self.cleanup_stale_streams(), "cleanup-stale-streams")
        if demo:
            self._start_demo()
        host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host
        logger.info("Talk:   http://%s:%d/sender", host, server.port)
        logger.info("Listen: http://%s:%d/receiver", host, server.port)
        logger.info("VLC:    http://%s:%d/stream/latest.mp3", host, audio.port)

    async def stop(self) -> None:
        """Tells everyone, ends all streams, and closes peers and sockets, within `server.shutdown_timeout_s`."""
        self._stop_requested.set()
        for stream in list(self.active_streams.values()):
            self._end_stream(stream, "server stopping")
        try:
            async with asyncio.timeout(self.settings.server.shutdown_timeout_s):
                await asyncio.gather(*(self._dismiss(client) for client in list(self.connections.values())))
        except TimeoutError:
            logger.warning("Some connections did not close in time")
        await self._tasks.cancel()
        await self.audio_server.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        self.peers.close()

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            os._exit(1)
        logger.info("Stopping")
        self._stop_requested.set()

    async def _dismiss(self, client: Client) -> None:
        await self._release(client, "server stopping")
        await client.ws.close(WSCloseCode.GOING_AWAY, "server stopping")

    def _application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/", self.handle_index),
                web.get("/sender", functools.partial(_page, "sender.html")),
                web.get("/receiver", functools.partial(_page, "receiver.html")),
                web.get("/ws", self.websocket_handler),
                web.get("/health", self.handle_health),
                web.get("/metrics", self.handle_metrics),
                *self.audio_server.routes(),
            ]
        )
        return application

    def _start_demo(self) -> None:
        stream = self._create_stream(DEMO_STREAM_ID, DEMO_STREAM_ID, sender_id=DEMO_STREAM_ID, permanent=True)
        self._tasks.spawn(DemoSender(stream.track).run(), "demo-sender")

    # HTTP

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.websocket_handler(request)
        return await _page("index.html", request)

    async def handle_health(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "ok",
                "webrtc_available": True,
                "audio_server_running": self.audio_server.is_running,
                "active_streams": self._live_count(),
                "connected_clients": len(self.connections),
                "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            }
        )

    async def handle_metrics(self, request: web.Request) -> web.Response:
        figures = self.figures()
        if metrics.wants_prometheus(request.headers.get("Accept", "")):
            return web.Response(text=metrics.prometheus(figures), headers={"Content-Type": metrics.CONTENT_TYPE})
        return web.json_response(figures)

    def figures(self) -> metrics.Figures:
        """All counters, by the names they have in `/metrics`."""
        fanouts = self.peers.fanouts
        live_bytes = sum(stream.track.payload_bytes for stream in self.active_streams.values())
        return {
            "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            "active_connections": len(self.connections),
            "active_streams": self._live_count(),
            "total_audio_bytes": self._ended_bytes + live_bytes,
            "webrtc_available": True,
            "receivers": sum(len(fanout) for fanout in fanouts),
            "forwarded_packets": self.peers.forwarded,
            "dropped_packets": self.peers.dropped,
            "refused_media": self.peers.refused_media,
            "early_media": self.peers.early_media,
            "slow_websockets_closed": self.too_slow,
        }

    # WebSockets

    async def websocket_handler(self, request: web.Request) -> web.StreamResponse:
        """One signalling socket, from the upgrade to its end. 503 before the upgrade when there are too many."""
        server = self.settings.server
        if len(self.connections) >= server.max_connections or self._stop_requested.is_set():
            raise web.HTTPServiceUnavailable(text="Too many connections: try again later", headers={"Retry-After": "5"})
        # Without compression: its state is a quarter of a megabyte for each socket.
        ws = web.WebSocketResponse(heartbeat=server.heartbeat_s, max_msg_size=server.max_message_bytes, compress=False)
        await ws.prepare(request)
        assert request.transport is not None
        client: Client = Connection(str(uuid.uuid4()), Outbox(ws, request.transport, server.queue_size))
        self.connections[client.id] = client
        writer = self._tasks.spawn(client.ws.run(), f"outbox-{client.id}")
        logger.debug("Connection %s from %s", client.id, request.remote)
        try:
            await self.send_available_streams(client)
            async for frame in ws:
                if frame.type is WSMsgType.TEXT:
                    await self.handle_message(client, frame.data)
                elif frame.type is WSMsgType.BINARY:
                    client.ws.send(messages.Error("bad_message", "Messages are JSON in text frames").text)
        finally:
            await self._clean_up(client)
            writer.cancel()
        return ws

    async def handle_message(self, client: Client, text: str) -> None:
        """Does what the message asks, or answers with an `error` and changes nothing."""
        try:
            message = messages.parse(text)
            await self._acts[type(message)](client, message)
        except Refused as refusal:
            logger.debug("Connection %s: %s: %s", client.id, refusal.code, ascii(str(refusal)))
            client.ws.send(messages.Error(refusal.code, str(refusal)).text)

    async def send_available_streams(self, client: Client, message: messages.GetAvailableStreams | None = None) -> None:
        live = [stream for stream in self.active_streams.values() if stream.is_live]
        details = [stream.details() for stream in live]
        client.ws.send(messages.AvailableStreams([stream.id for stream in live], details).text)

    async def stop_stream(self, client: Client, message: messages.StopStream) -> None:
        """Ends the client's media and keeps its socket."""
        await self._release(client, "sender left")

    def broadcast(self, message: messages.ServerMessage) -> None:
        text = message.text
        for client in self.connections.values():
            client.ws.send(text)

    async def _clean_up(self, client: Client) -> None:
        """The socket is gone: so is all that belonged to it."""
        self.too_slow += client.ws.overflowed
        client.ws.end()
        self.connections.pop(client.id, None)
        await self._release(client, "sender disconnected")
        client.advance(ConnectionState.CLOSED)

    # Senders

    async def setup_sender(self, client: Client, message: messages.StartSending) -> None:
        """Gives the client the sender's role; whatever it did before ends."""
        await self._release(client, "sender left")
        client.role = Role.SENDER
        client.stream_id = message.name or f"stream_{client.id}"
        client.advance(ConnectionState.READY)
        client.ws.send(messages.SenderReady(client.id, client.stream_id).text)

    async def handle_webrtc_offer(self, client: Client, message: messages.WebrtcOffer) -> None:
        """Answers a sender's offer. A further offer replaces its media, and the stream goes on."""
        if client.role is not Role.SENDER or client.stream_id is None:
            raise Refused("unexpected_offer", "Send start_sending before an offer")
        stream_id = client.stream_id
        stream = self.active_streams.get(stream_id)
        if stream is None:
            stream = self._create_stream(stream_id, stream_id, client.id)
        peer = self.peers.sender(stream.track)
        peer.on_connected = functools.partial(self._on_sender_connected, client, stream)
        peer.on_gone = functools.partial(self._on_peer_gone, client, peer)
        try:
            answer = await peer.answer(message.offer.sdp)
            if client.stream_id != stream_id or stream.state in (StreamState.ENDED, StreamState.REMOVED):
                raise Refused("stream_ended", "Stream ended")
        except BaseException:
            await peer.close()
            if stream.state is StreamState.CREATED and stream.sender_id == client.id and client.pc is None:
                self._end_stream(stream, "no media")
            raise
        await self._replace_peer(client, peer)
        client.ws.send(messages.Answer(messages.AnswerDescription(answer, "answer")).text)

    def _create_stream(self, stream_id: str, name: str, sender_id: str, permanent: bool = False) -> Stream:
        stream = Stream(stream_id, name, OpusTrack(), sender_id, permanent=permanent)
        self.active_streams[stream_id] = stream
        FirstPacket(self.relay, stream.track, functools.partial(self._on_first_packet, stream))
        return stream

    def _on_sender_connected(self, client: Client, stream: Stream) -> None:
        if stream.sender_id != client.id:
            self._take_over(client, stream)
        client.advance(ConnectionState.CONNECTED)
        FirstPacket(self.relay, stream.track, functools.partial(client.advance, ConnectionState.STREAMING))

    def _take_over(self, client: Client, stream: Stream) -> None:
        """A second sender under the same name has media: the stream is its own now, and goes on."""
        previous = self.connections.get(stream.sender_id)
        stream.sender_id = client.id
        logger.info("Stream %s: another sender took over", ascii(stream.id))
        if previous is not None:
            previous.ws.send(messages.StreamEnded(stream.id, "replaced").text)
            self._drop(previous, "replaced")

    def _on_first_packet(self, stream: Stream) -> None:
        stream.advance(StreamState.ACTIVE)
        logger.info("Stream %s is live", ascii(stream.id))
        self.broadcast(messages.StreamAvailable(stream.id, stream.name))
        self.audio_server.stream_started(stream)

    def _end_stream(self, stream: Stream, reason: str) -> None:
        """The one place where a stream leaves the registry: its receivers and listeners go with it."""
        if stream.state in (StreamState.ENDED, StreamState.REMOVED):
            return
        was_live = stream.is_live
        stream.advance(StreamState.ENDED)
        stream.track.stop()
        if was_live:
            logger.info("Stream %s ended: %s", ascii(stream.id), reason)
            self.broadcast(messages.StreamEnded(stream.id, reason))
            self.audio_server.stream_ended(stream)
        for client_id in [*stream.receivers, stream.sender_id]:
            if (client := self.connections.get(client_id)) is not None and client.stream_id == stream.id:
                self._drop(client, reason)
        self._ended_bytes += stream.track.payload_bytes
        self._ended_ids.append(stream.id)
        del self.active_streams[stream.id]
        stream.advance(StreamState.REMOVED)

    # Receivers

    async def setup_receiver(self, client: Client, message: messages.StartReceiving) -> None:
        """Offers the client the stream asked for, or the newest.

        A second request for the same stream while the offer is unanswered is the same request: cards press twice.
        """
        stream = self._find(message.stream_id)
        if client.role is Role.RECEIVER and client.stream_id == stream.id and client.awaits_answer:
            return
        await self._release(client, "sender left")
        peer = self.peers.receiver(stream.track)
        peer.on_connected = functools.partial(self._on_receiver_connected, client, stream)
        peer.on_gone = functools.partial(self._on_peer_gone, client, peer)
        client.role, client.stream_id = Role.RECEIVER, stream.id
        client.advance(ConnectionState.READY)
        stream.receivers.add(client.id)
        await self._replace_peer(client, peer)
        offer = await peer.offer()
        if client.pc is peer:
            client.awaits_answer = True
            client.ws.send(messages.Offer(messages.OfferDescription(offer, "offer"), stream.id).text)

    async def handle_webrtc_answer(self, client: Client, message: messages.WebrtcAnswer) -> None:
        if not isinstance(client.pc, ReceiverPeer) or not client.awaits_answer:
            raise Refused("unexpected_answer", "There is no offer to answer: send start_receiving first")
        await client.pc.accept(message.answer.sdp)
        client.awaits_answer = False

    async def handle_ice_candidate(self, client: Client, message: messages.IceCandidate) -> None:
        if client.pc is None:
            raise Refused("unexpected_candidate", "There is no offer or answer that the candidate could belong to")
        await client.pc.add_candidate(message.candidate)

    def _on_receiver_connected(self, client: Client, stream: Stream) -> None:
        client.advance(ConnectionState.CONNECTED)
        FirstPacket(self.relay, stream.track, functools.partial(self._on_receiver_packet, client, client.pc))

    def _on_receiver_packet(self, client: Client, peer: SenderPeer | ReceiverPeer | None) -> None:
        if client.pc is peer:
            client.advance(ConnectionState.STREAMING)

    def _find(self, stream_id: str | None) -> Stream:
        stream = newest(self.active_streams) if stream_id is None else self.active_streams.get(stream_id)
        if stream is not None and stream.is_live:
            return stream
        if stream_id in self._ended_ids:
            raise Refused("stream_ended", "Stream ended")
        raise Refused("no_stream", "No audio stream available")

    # Both

    async def _replace_peer(self, client: Client, peer: SenderPeer | ReceiverPeer) -> None:
        """Makes `peer` the client's, which has `webrtc.connection_timeout` to connect."""
        previous, client.pc = client.pc, peer
        client.advance(ConnectionState.READY)
        asyncio.get_running_loop().call_later(
            self.settings.webrtc.connection_timeout, self._check_connected, client, peer
        )
        if previous is not None:
            await previous.close()

    def _check_connected(self, client: Client, peer: SenderPeer | ReceiverPeer) -> None:
        if client.pc is peer and client.state is ConnectionState.READY:
            self._on_peer_gone(client, peer, "not connected in time")

    def _on_peer_gone(self, client: Client, peer: SenderPeer | ReceiverPeer, reason: str) -> None:
        if client.pc is peer:
            logger.debug("Connection %s: media lost: %s", client.id, reason)
            if client.role is Role.RECEIVER and reason != "left":
                client.ws.send(messages.Error("connection_lost", f"The WebRTC connection is lost: {reason}").text)
            self._drop(client, f"sender {reason}")

    async def _release(self, client: Client, reason: str) -> None:
        """Takes the client's role and media from it; what it sent ends with `reason`. Its socket stays."""
        peer = self._detach(client, reason)
        if peer is not None:
            await peer.close()

    def _drop(self, client: Client, reason: str) -> None:
        """The same for callers that cannot wait for the peer to close."""
        peer = self._detach(client, reason)
        if peer is not None:
            self._tasks.spawn(peer.close(), f"close-peer-{client.id}")

    def _detach(self, client: Client, reason: str) -> SenderPeer | ReceiverPeer | None:
        peer, client.pc = client.pc, None
        role, client.role = client.role, None
        stream = self.active_streams.get(client.stream_id or "")
        client.stream_id, client.awaits_answer = None, False
        if client.state is not ConnectionState.CLOSED:
            client.advance(ConnectionState.CREATED)
        if stream is not None and role is Role.RECEIVER:
            stream.receivers.discard(client.id)
            stream.last_activity = time.monotonic()
        elif stream is not None and role is Role.SENDER and stream.sender_id == client.id:
            self._end_stream(stream, reason)
        return peer

    # Background

    async def cleanup_stale_streams(self) -> None:
        """Every `server.cleanup_interval_s`: ends streams whose track ended and those that nobody takes any more."""
        while True:
            await asyncio.sleep(self.settings.server.cleanup_interval_s)
            now_s = time.monotonic()
            for stream in list(self.active_streams.values()):
                if stream.track.readyState == "ended":
                    self._end_stream(stream, "track ended")
                elif stream.receivers or stream.listeners or stream.permanent:
                    stream.last_activity = now_s
                elif now_s - stream.last_activity > self.settings.server.idle_stream_timeout_s:
                    self._end_stream(stream, "idle")

    async def process_visualization(self, client: Client, message: messages.SubscribeVisualization) -> None:
        raise Refused("not_available", "Visualization is not available")

    async def stop_visualization(self, client: Client, message: messages.UnsubscribeVisualization) -> None:
        pass

    def _live_count(self) -> int:
        return sum(stream.is_live for stream in self.active_streams.values())


async def _page(name: str, request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC_FOLDER / name, headers={"Cache-Control": "no-cache"})


async def _open(option: str, host: str, port: int, start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except OSError as error:
        raise StartError(
            f"port {port} on {host} cannot be opened: {os.strerror(error.errno or 0)}. "
            f"Perhaps another copy of this server holds it; choose another port with {option}"
        ) from error


async def serve(settings: Settings, demo: bool) -> None:
    await VoiceStreamingServer(settings).run_server(demo)


def main() -> int:
    return command_line.run(serve)


if __name__ == "__main__":
    sys.exit(main())
