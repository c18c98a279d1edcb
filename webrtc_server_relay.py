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

if __name__ == "__main__":
    # The imports below take half a second, and SIGHUP, which is for reloading, would end the process meanwhile.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from audio_stream_server import AudioStreamServer
from voice_streaming import __version__
from voice_streaming.access.admission import Admission
from voice_streaming.exchange.exchange import Exchange
from voice_streaming.listening.room_radio import RoomRadios
from voice_streaming.network.discovery import announcements
from voice_streaming.network.server_id import NoServerId, server_id
from voice_streaming.network.tls import Certificates, open_certificates, renew_certificates
from voice_streaming.process.failures import Failures
from voice_streaming.process.figures import Figures
from voice_streaming.process.loop_lag import LoopLag
from voice_streaming.process.resources import process_figures, reduce_garbage_collection
from voice_streaming.process.tasks import Tasks
from voice_streaming.program import command_line
from voice_streaming.program.clustering import cluster_of
from voice_streaming.program.ports import OpenPorts
from voice_streaming.program.reload import Reload, ReloadRequests
from voice_streaming.program.startup import log_addresses
from voice_streaming.recording.recorder import Recorder
from voice_streaming.rtc import Peers, ReceiverPeer
from voice_streaming.sessions.session import Services
from voice_streaming.sessions.sessions import Sessions
from voice_streaming.settings.model import Settings, recordings_folder
from voice_streaming.signalling import messages
from voice_streaming.signalling.client import Client
from voice_streaming.signalling.signalling import Signalling
from voice_streaming.streams.demo import DEMO_STREAM_ID, DemoSender
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.web import openapi
from voice_streaming.web.cluster_api import ClusterApi
from voice_streaming.web.health import AUDIO_PORT, CERTIFICATE, REGISTRY, status_of
from voice_streaming.web.recordings_api import RecordingsApi
from voice_streaming.web.rooms_api import RoomsApi
from voice_streaming.web.site import Site
from voice_streaming.web.whip import WhipEndpoints

logger = logging.getLogger("voice_streaming.server")

MOVE_TIMEOUT_S = 4.0
"""Pages are gone after about two seconds: they keep what plays until the next server's connection plays."""


class VoiceStreamingServer:
    """Holds both registries; runs signalling, the relay and the MP3 server on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failures = Failures()
        self.relay = VoiceRelay(self.failures)
        self.streams = Streams(self.relay, settings.webrtc.resume_grace_s, self.failures)
        self.active_streams = self.streams.active
        self.peers = Peers(settings.webrtc, self.relay, self.failures)
        self._tasks = Tasks(self.failures)
        services = Services(self.relay, self.streams, self.peers, self._tasks, settings)
        self.admission = Admission(settings, self.active_streams, self.failures, services.feeds.waiting)
        self.sessions = Sessions(services)
        self.recorder = Recorder(settings.recording, recordings_folder(settings, os.environ), self.relay, self.failures)
        self.signalling = Signalling(
            settings,
            self.relay,
            self.streams,
            self.sessions,
            self.recorder,
            self.admission,
            self._tasks,
            self.failures,
        )
        self.connections = self.signalling.clients
        self.whip = WhipEndpoints(settings, self.sessions, self.admission)
        self.audio_server = AudioStreamServer(
            settings,
            self.relay,
            self.streams,
            self.admission,
            self.failures,
            RoomRadios(services.feeds, services.rooms),
        )
        self.recordings = RecordingsApi(self.recorder, self.streams, self.admission.access, settings.audio)
        self.streams.observe(self.recorder)
        self.exchange = Exchange(settings, self.sessions, self.streams, self.failures)
        # After signalling, so that clients learn of a stream's end before their media end.
        self.streams.observe(self.sessions)
        self.cluster = cluster_of(
            settings, services, self.sessions, self.admission.access, self.failures, self._fingerprint
        )
        self.whip.elsewhere = self.cluster
        self._started_s = time.monotonic()
        self._stop_requested = asyncio.Event()
        self._lag = LoopLag()
        self.id: str | None = None
        """By which other programs know this server again; None before the start, and where it cannot be kept."""
        self.certificates: Certificates | None = None
        self._ports: OpenPorts | None = None

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
        self.certificates = open_certificates(self.settings.server, os.environ, self.failures)
        if self.certificates is not None:
            self.admission.access.hosts.certified = self.certificates.names
        self._open_id()
        application = self._application()
        self._ports = OpenPorts(
            self.settings, application, self.audio_server, self.certificates, self.admission.ports, self.failures
        )
        await self._ports.open()
        background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "renew-certificates": functools.partial(renew_certificates, self.certificates),
            "cleanup-stale-streams": self.cleanup_stale_streams,
            "loop-lag": self._lag.run,
            "recorder": self.recorder.run,
            **announcements(self.settings, self.certificates is not None, os.environ, self.id, self.failures),
        }
        for name, work in background.items():
            self._tasks.supervise(work, name)
        self.exchange.start()
        if self.cluster is not None:
            self.cluster.start()
        if demo:
            self._start_demo()
        reduce_garbage_collection()
        log_addresses(self.settings, with_tls=self.certificates is not None)

    async def stop(self) -> None:
        """Tells everyone, ends all streams, and closes peers and sockets, within `server.shutdown_timeout_s`.

        In a cluster clients have MOVE_TIMEOUT_S before that, to go to another server.
        """
        self._stop_requested.set()
        self.admission.close()
        if self.cluster is not None:
            self.cluster.drain()
            await self.signalling.move_clients(MOVE_TIMEOUT_S)
        for stream in list(self.active_streams.values()):
            self.streams.end(stream, "server stopping")
        try:
            async with asyncio.timeout(self.settings.server.shutdown_timeout_s):
                await self.whip.connections.close()
                await self.signalling.close()
                await self.exchange.close()
                if self.cluster is not None:
                    await self.cluster.close()
        except TimeoutError:
            logger.warning("Some connections did not close in time")
        await self.recorder.close()
        self.recordings.close()
        await self._tasks.cancel()
        self.sessions.close()
        if self._ports is not None:
            await self._ports.close()
        self.peers.close()

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            os._exit(1)
        logger.info("Stopping")
        self._stop_requested.set()

    def _fingerprint(self) -> str:
        return self.certificates.fingerprint() if self.certificates is not None else ""

    def _open_id(self) -> None:
        try:
            self.id = server_id(self.settings.server, os.environ)
        except NoServerId as error:
            logger.warning("No id for programs that look for this server: %s", error)
            self.failures.hold("server-id", str(error))

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
        rooms = RoomsApi(self.sessions.rooms, self.admission.access)
        cluster = ClusterApi(self.cluster, self.admission.access)
        for part in (site, rooms, cluster, self.recordings, openapi, self.whip, self.audio_server):
            application.add_routes(part.routes())
        application.on_response_prepare.append(site.add_headers)
        return application

    def _start_demo(self) -> None:
        stream = self.streams.create(DEMO_STREAM_ID, DEMO_STREAM_ID, DEMO_STREAM_ID, permanent=True)
        self._tasks.supervise(DemoSender(stream.track).run, "demo-sender")

    # Figures

    def health(self) -> dict[str, object]:
        """What `GET /health` says. `problems`: what failed and is not running again yet, each with its cause."""
        active_streams = 0
        with self.failures.guard(REGISTRY):
            active_streams = self.streams.live_count
        problems = self.failures.problems
        if not self.audio_server.is_running:
            problems[AUDIO_PORT] = f"port {self.settings.audio.port} is not open"
        if self.certificates is not None and (trouble := self.certificates.trouble()) is not None:
            problems[CERTIFICATE] = trouble
        return {
            "status": status_of(problems),
            "problems": problems,
            "id": self.id,
            "webrtc_available": True,
            "audio_server_running": self.audio_server.is_running,
            "active_streams": active_streams,
            "connected_clients": len(self.connections) + len(self.whip.connections),
            "clients_via": {"websocket": len(self.connections), **self.whip.connections.counts()},
            "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            "audio_port": self.settings.audio.port,
            "exchange": self.exchange.describe(),
            "recording": self.recorder.describe(),
            "mixes": self.sessions.describe_mixes(),
            "cluster": None if self.cluster is None else self.cluster.describe(),
            "tls_port": self.settings.server.tls_port if self.certificates else None,
            "certificate_port": self.settings.server.port if self._has_authority else None,
            "version": __version__,
        }

    @property
    def _has_authority(self) -> bool:
        """Whether devices have to trust an authority of this server's own, before they use HTTPS."""
        return self.certificates is not None and self.certificates.authority_pem() is not None

    def figures(self) -> Figures:
        """All counters, by the names they have in `/metrics`."""
        return {
            "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            "active_streams": self.streams.live_count,
            "total_audio_bytes": self.streams.total_bytes,
            "webrtc_available": True,
            "failures": self.failures.total,
            **self.signalling.figures(),
            **self.sessions.figures(),
            **self.peers.figures(),
            **self.audio_server.figures(),
            **self.recorder.figures(),
            **({} if self.cluster is None else self.cluster.figures()),
            **self._lag.figures(),
            **process_figures(),
            **self.admission.figures(),
        }

    def receiver_details(self) -> list[dict[str, object]]:
        """What `/metrics?details=1` says of each WebRTC receiver, whichever way it came."""
        return [
            {
                "connection_id": connection_id,
                "stream_id": session.stream_id,
                "via": session.via,
                **session.peer.statistics(),
            }
            for connection_id, session in self.sessions.active.items()
            if isinstance(session.peer, ReceiverPeer)
        ]

    # What the architecture names; signalling and sessions do it.

    async def websocket_handler(self, request: web.Request) -> web.StreamResponse:
        """One signalling socket, from the upgrade to its end. Before the upgrade it may get 401, 403, 429 or 503."""
        return await self.signalling.handle_socket(request)

    async def handle_message(self, client: Client, text: str) -> None:
        """Does what the message asks, or answers with an `error` and changes nothing."""
        await self.signalling.handle_message(client, text)

    async def setup_sender(self, client: Client, message: messages.StartSending) -> messages.SenderReady:
        """Gives the client the sender's role; what it did before ends, but a stream that it starts again goes on."""
        return await self.signalling.actions.start_sending(client, message)

    async def handle_webrtc_offer(self, client: Client, message: messages.WebrtcOffer) -> messages.Answer:
        """Answers a sender's offer."""
        return await self.signalling.actions.answer_offer(client, message)

    async def setup_receiver(self, client: Client, message: messages.StartReceiving) -> messages.Offer | None:
        """Offers the client the stream asked for, or the newest."""
        return await self.signalling.actions.start_receiving(client, message)

    async def handle_webrtc_answer(self, client: Client, message: messages.WebrtcAnswer) -> None:
        await self.signalling.actions.accept_answer(client, message)

    async def process_visualization(self, client: Client, message: messages.SubscribeVisualization) -> None:
        """Gives the client the stream's `audio_data`."""
        await self.signalling.actions.subscribe_visualization(client, message)

    async def cleanup_stale_streams(self) -> None:
        """Every `server.cleanup_interval_s`: ends streams whose track ended and those that nobody takes any more."""
        while True:
            await asyncio.sleep(self.settings.server.cleanup_interval_s)
            self.streams.end_stale(self.settings.server.idle_stream_timeout_s)
            self.sessions.rooms.forget_unused()
            await self.signalling.close_idle()


async def serve(
    settings: Settings, demo: bool, read_settings: Callable[[], Settings], requests: ReloadRequests
) -> None:
    server = VoiceStreamingServer(settings)
    reload = Reload(read_settings, settings, server.admission.access)
    with requests.listening(lambda: reload.run(server.certificates)):
        await server.run_server(demo)


def main() -> int:
    return command_line.run(serve)


if __name__ == "__main__":
    sys.exit(main())
