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
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import WSCloseCode, web

from audio_stream_server import AudioStreamServer
from voice_streaming import __version__
from voice_streaming.access.admission import Admission
from voice_streaming.network.discovery import announcements
from voice_streaming.network.tls import Certificates, open_certificates, renew_certificates
from voice_streaming.process.failures import Failures
from voice_streaming.process.figures import Figures
from voice_streaming.process.loop_lag import LoopLag
from voice_streaming.process.refusal import Refused
from voice_streaming.process.resources import process_figures, reduce_garbage_collection
from voice_streaming.process.tasks import Tasks
from voice_streaming.program import command_line
from voice_streaming.program.ports import OpenPorts
from voice_streaming.program.startup import log_addresses
from voice_streaming.rtc import Peers, ReceiverPeer
from voice_streaming.sessions.connection import Connection, ConnectionState, Role
from voice_streaming.sessions.sessions import Sessions
from voice_streaming.settings.model import Settings
from voice_streaming.signalling import messages, permissions
from voice_streaming.signalling.conversation import Client, Conversations
from voice_streaming.signalling.meters import Meters
from voice_streaming.signalling.notices import WebSocketNotices
from voice_streaming.signalling.outbox import Outbox
from voice_streaming.streams.demo import DEMO_STREAM_ID, DemoSender
from voice_streaming.streams.grants import Grant
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState, live_streams
from voice_streaming.web.site import Site

logger = logging.getLogger("voice_streaming.server")


class VoiceStreamingServer:
    """Holds both registries; runs signalling, the relay and the MP3 server on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connections: dict[str, Client] = {}
        self.failures = Failures()
        self.relay = VoiceRelay(self.failures)
        self.streams = Streams(self.relay, settings.webrtc.resume_grace_s, self)
        self.active_streams = self.streams.active
        self.peers = Peers(settings.webrtc, self.relay, self.failures)
        self.admission = Admission(settings, self.active_streams, self.failures)
        self.audio_server = AudioStreamServer(settings, self.relay, self.active_streams, self.admission, self.failures)
        self.too_slow = 0
        """WebSockets that were closed because they did not read."""
        self._started_s = time.monotonic()
        self._tasks = Tasks(self.failures)
        self.conversations = Conversations(settings.limits, self.admission.limits, self.connections)
        self.sessions = Sessions(
            self.relay,
            self.streams,
            self.connections,
            self._tasks,
            settings.webrtc.connection_timeout,
            WebSocketNotices(),
        )
        self._stop_requested = asyncio.Event()
        self._lag = LoopLag()
        self._meters = Meters(self.failures)
        self.certificates: Certificates | None = None
        self._ports: OpenPorts | None = None
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
        """Opens all ports. Raises StartError when one cannot be had, ConfigError for certificates of no use."""
        self.certificates = open_certificates(self.settings.server, os.environ)
        application = self._application()
        self._ports = OpenPorts(self.settings, application, self.audio_server, self.certificates, self.admission.ports)
        await self._ports.open()
        background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "renew-certificates": functools.partial(renew_certificates, self.certificates),
            "cleanup-stale-streams": self.cleanup_stale_streams,
            "loop-lag": self._lag.run,
            **announcements(self.settings, self.certificates is not None, os.environ),
        }
        for name, work in background.items():
            self._tasks.supervise(work, name)
        if demo:
            self._start_demo()
        reduce_garbage_collection()
        log_addresses(self.settings, with_tls=self.certificates is not None)

    async def stop(self) -> None:
        """Tells everyone, ends all streams, and closes peers and sockets, within `server.shutdown_timeout_s`."""
        self._stop_requested.set()
        self.admission.close()
        for stream in list(self.active_streams.values()):
            self.streams.end(stream, "server stopping")
        try:
            async with asyncio.timeout(self.settings.server.shutdown_timeout_s):
                await asyncio.gather(*(self._dismiss(client) for client in list(self.connections.values())))
        except TimeoutError:
            logger.warning("Some connections did not close in time")
        await self._tasks.cancel()
        if self._ports is not None:
            await self._ports.close()
        self.peers.close()

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            os._exit(1)
        logger.info("Stopping")
        self._stop_requested.set()

    async def _dismiss(self, client: Client) -> None:
        await self.sessions.release(client, "server stopping")
        await client.ws.close(WSCloseCode.GOING_AWAY, "server stopping")

    def _application(self) -> web.Application:
        site = Site(
            self.websocket_handler,
            self.health,
            self.figures,
            self.receiver_details,
            self.certificates.authority_pem if self.certificates else lambda: None,
            self.settings.server.frame_ancestors,
            self.admission.access,
        )
        application = self.admission.application()
        application.add_routes([*site.routes(), *self.audio_server.routes()])
        application.on_response_prepare.append(site.add_headers)
        return application

    def _start_demo(self) -> None:
        stream = self.streams.create(DEMO_STREAM_ID, DEMO_STREAM_ID, DEMO_STREAM_ID, permanent=True)
        self._tasks.supervise(DemoSender(stream.track).run, "demo-sender")

    # Figures

    def health(self) -> dict[str, object]:
        """What `GET /health` says. `problems`: what failed and is not running again yet, each with its cause."""
        return {
            "status": "degraded" if self.failures.problems else "ok",
            "problems": self.failures.problems,
            "webrtc_available": True,
            "audio_server_running": self.audio_server.is_running,
            "active_streams": self.streams.live_count,
            "connected_clients": len(self.connections),
            "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            "audio_port": self.settings.audio.port,
            "tls_port": self.settings.server.tls_port if self.certificates else None,
            "version": __version__,
        }

    def figures(self) -> Figures:
        """All counters, by the names they have in `/metrics`."""
        return {
            "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            "active_connections": len(self.connections),
            "active_streams": self.streams.live_count,
            "total_audio_bytes": self.streams.total_bytes,
            "webrtc_available": True,
            "slow_websockets_closed": self.too_slow,
            "failures": self.failures.total,
            **self.peers.figures(),
            **self.audio_server.figures(),
            **self._lag.figures(),
            **process_figures(),
            **self.admission.figures(),
        }

    def receiver_details(self) -> list[dict[str, object]]:
        """What `/metrics?details=1` says of each WebRTC receiver."""
        return [
            {"connection_id": client.id, "stream_id": client.stream_id, **client.pc.statistics()}
            for client in self.connections.values()
            if isinstance(client.pc, ReceiverPeer)
        ]

    # WebSockets

    async def websocket_handler(self, request: web.Request) -> web.StreamResponse:
        """One signalling socket, from the upgrade to its end. Before the upgrade it may get 401, 403, 429 or 503."""
        with self.admission.enter(request) as grant:
            return await self._converse(request, grant)

    async def _converse(self, request: web.Request, grant: Grant) -> web.WebSocketResponse:
        server = self.settings.server
        # Without compression: its state is a quarter of a megabyte for each socket. Pings are answered by the limits.
        ws = web.WebSocketResponse(
            heartbeat=server.heartbeat_s, max_msg_size=server.max_message_bytes, compress=False, autoping=False
        )
        await ws.prepare(request)
        assert request.transport is not None
        outbox = Outbox(ws, request.transport, server.queue_size)
        client: Client = Connection(str(uuid.uuid4()), outbox, grant=grant)
        self.connections[client.id] = client
        writer = self._tasks.spawn(client.ws.run(), f"outbox-{client.id}")
        logger.debug("Connection %s from %s", client.id, request.remote)
        try:
            await self.send_available_streams(client)
            await self.conversations.converse(ws, client, functools.partial(self.handle_message, client))
        finally:
            await self._clean_up(client, left=ws.close_code not in (None, WSCloseCode.ABNORMAL_CLOSURE))
            writer.cancel()
        return ws

    async def handle_message(self, client: Client, text: str) -> None:
        """Does what the message asks, or answers with an `error` and changes nothing."""
        try:
            message = messages.parse(text)
            permissions.check(client.grant, message)
            async with self.conversations.admit(message, client):
                await self._acts[type(message)](client, message)
        except Refused as refusal:
            logger.debug("Connection %s: %s: %s", client.id, refusal.code, ascii(str(refusal)))
            client.ws.send(messages.Error(refusal.code, str(refusal)).text)
        except Exception:
            logger.exception("Connection %s: a message failed", client.id)
            client.ws.send(messages.Error("internal", "The server failed at this; its log says why").text)
            self.sessions.drop(client, "server failed")

    async def send_available_streams(self, client: Client, message: messages.GetAvailableStreams | None = None) -> None:
        live = live_streams(self.active_streams, client.grant)
        details = [stream.details() for stream in live]
        client.ws.send(messages.AvailableStreams([stream.id for stream in live], details).text)

    async def stop_stream(self, client: Client, message: messages.StopStream) -> None:
        """Ends the client's media and keeps its socket."""
        await self.sessions.release(client, "sender left")

    def broadcast(self, message: messages.StreamMessage) -> None:
        text = message.text
        for client in self.connections.values():
            if client.grant.covers(message.stream_id):
                client.ws.send(text)

    async def _clean_up(self, client: Client, *, left: bool) -> None:
        """The socket is gone, and so is all that belonged to it; `left`: its client closed it in due form."""
        if client.ws.overflowed:
            self.too_slow += 1
        client.ws.end()
        self.connections.pop(client.id, None)
        await self.stop_visualization(client, messages.UnsubscribeVisualization())
        await self.sessions.release(client, "sender left" if left else "sender lost", may_resume=not left)
        client.advance(ConnectionState.CLOSED)

    # Senders

    async def setup_sender(self, client: Client, message: messages.StartSending) -> None:
        """Gives the client the sender's role; what it did before ends, but a stream that it starts again goes on."""
        starts_again = client.role is Role.SENDER and client.name is not None and client.name == message.name
        await self.sessions.release(client, "sender left", may_resume=starts_again)
        client.role, client.name = Role.SENDER, message.name
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
            stream = self.streams.create(stream_id, client.name or f"Voice {client.id[:4]}", client.id)
        peer = self.peers.sender(stream.track)
        self.sessions.watch_sender(client, peer, stream)
        try:
            answer = await peer.answer(message.offer.sdp)
            if client.stream_id != stream_id or self.active_streams.get(stream_id) is not stream:
                raise Refused("stream_ended", "Stream ended")
        except BaseException:
            await peer.close()
            if stream.state is StreamState.CREATED and stream.sender_id == client.id and client.pc is None:
                self.streams.end(stream, "no media")
            raise
        await self.sessions.replace_peer(client, peer)
        client.ws.send(messages.Answer(messages.AnswerDescription(answer, "answer")).text)

    # What the registry of streams tells

    def on_stream_live(self, stream: Stream) -> None:
        self.broadcast(messages.StreamAvailable(stream.id, stream.name))
        self.audio_server.stream_started(stream)

    def on_stream_paused(self, stream: Stream) -> None:
        self.broadcast(messages.StreamPaused(stream.id))

    def on_stream_resumed(self, stream: Stream) -> None:
        self.broadcast(messages.StreamResumed(stream.id))

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self.broadcast(messages.StreamEnded(stream.id, reason))
        self.audio_server.stream_ended(stream)
        self._meters.forget(stream.id)
        for client_id in [*stream.receivers, stream.sender_id]:
            if (client := self.connections.get(client_id)) is not None and client.stream_id == stream.id:
                self.sessions.drop(client, reason)

    # Receivers

    async def setup_receiver(self, client: Client, message: messages.StartReceiving) -> None:
        """Offers the client the stream asked for, or the newest.

        A second request for the same stream while the offer is unanswered is the same request: cards press twice.
        """
        stream = self.streams.live(message.stream_id, client.grant)
        if client.role is Role.RECEIVER and client.stream_id == stream.id and client.awaits_answer:
            return
        await self.sessions.release(client, "sender left")
        if not stream.is_live:
            raise Refused("stream_ended", "Stream ended")
        peer = self.peers.receiver(stream.track)
        self.sessions.watch_receiver(client, peer, stream)
        client.role, client.stream_id = Role.RECEIVER, stream.id
        client.advance(ConnectionState.READY)
        stream.receivers.add(client.id)
        await self.sessions.replace_peer(client, peer)
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
        await client.pc.add_candidate(message.candidate.candidate if message.candidate is not None else "")

    # Background

    async def cleanup_stale_streams(self) -> None:
        """Every `server.cleanup_interval_s`: ends streams whose track ended and those that nobody takes any more."""
        while True:
            await asyncio.sleep(self.settings.server.cleanup_interval_s)
            self.streams.end_stale(self.settings.server.idle_stream_timeout_s)
            await self.conversations.close_idle()

    async def process_visualization(self, client: Client, message: messages.SubscribeVisualization) -> None:
        """Gives the client the stream's `audio_data`, which is worked out once for all who asked."""
        stream = self.streams.live(message.stream_id, client.grant)
        if stream.id not in client.meters:
            client.meters[stream.id] = functools.partial(client.ws.send_latest, stream.id)
            self._meters.subscribe(stream.id, self.relay.pcm(stream.track), client.meters[stream.id])

    async def stop_visualization(self, client: Client, message: messages.UnsubscribeVisualization) -> None:
        """Of one stream, or of all."""
        for stream_id in [message.stream_id] if message.stream_id else list(client.meters):
            if (send := client.meters.pop(stream_id, None)) is not None:
                self._meters.unsubscribe(stream_id, send)


async def serve(settings: Settings, demo: bool) -> None:
    await VoiceStreamingServer(settings).run_server(demo)


def main() -> int:
    return command_line.run(serve)


if __name__ == "__main__":
    sys.exit(main())
