"""The live MP3 over HTTP, for everything that cannot speak WebRTC."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from voice_streaming.access.admission import Admission
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.icy import METADATA_INTERVAL_BYTES, IcyInterleaver, printable
from voice_streaming.listening.listeners import Listener
from voice_streaming.listening.mp3 import Mp3Counters
from voice_streaming.media.opus import CLOCK_RATE_HZ
from voice_streaming.settings.model import Settings
from voice_streaming.streams.grants import Grant, Scope
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, find, live_streams
from voice_streaming.web.site import STATIC_FOLDER

logger = logging.getLogger(__name__)

RADIO_NAME = "Live voice"
"""What players show for `latest.mp3`, whichever stream it plays."""

ENCODING_OPTIONS = {"bitrate", "bitrate_bps", "br", "quality", "format", "codec", "channels", "rate", "sample_rate"}
"""Queries that ask for another encoding. They are refused, so that nobody believes to have got it; other unknown ones
are left alone, as players and proxies add their own."""


class AudioStreamServer:
    """Serves the streams of the registry as MP3, on a port of its own and wherever its `routes` are added.

    The main server tells it when a stream starts and ends; it maintains `listeners` and `last_activity` of streams.
    """

    def __init__(
        self, settings: Settings, relay: VoiceRelay, streams: Streams, admission: Admission | None = None
    ) -> None:
        """To be made with a running loop. `admission` is the main server's; without one it has its own."""
        self._settings = settings
        self._relay = relay
        self._admission = admission or Admission(settings, streams.active)
        self._streams = streams.active
        self._channels = Channels(settings.audio, relay, streams.active)
        streams.observe(self._channels)
        self._runner: web.AppRunner | None = None

    @property
    def counters(self) -> Mp3Counters:
        return self._channels.counters

    @property
    def listeners(self) -> int:
        """Players connected now, to streams and to silence."""
        return self._channels.listeners

    @property
    def encoders(self) -> int:
        """Streams that are being encoded now."""
        return self._channels.encoders

    @property
    def is_running(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        """Opens the port; raises OSError when it is in use."""
        app = self._admission.application()
        app.add_routes(self.routes())
        app.add_routes([web.get("/health", _health), web.static("/static", STATIC_FOLDER)])
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=self._settings.server.shutdown_timeout_s,
            keepalive_timeout=self._settings.limits.request_timeout_s,
        )
        await runner.setup()
        assert runner.server is not None
        try:
            await self._admission.ports.open(self._settings.server.host, self._settings.audio.port, runner.server)
        except OSError:
            self._admission.ports.stop_listening()
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Lets all listeners go, those on other ports too, and closes the port."""
        self._channels.close()
        self._admission.ports.stop_listening()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def routes(self) -> list[web.RouteDef]:
        """For every application that is to serve the MP3."""
        return [
            web.get("/stream/status", self.status),
            web.get("/stream/latest.mp3", self.latest),
            web.get("/stream/{stream_id}.mp3", self.stream),
            web.options("/stream/{name}", self.preflight),
        ]

    def figures(self) -> dict[str, float]:
        """The counters, by the names they have in `/metrics`."""
        counters, pcm = self.counters, self._relay.pcm_counters
        return {
            "mp3_listeners": self.listeners,
            "mp3_encoders": self.encoders,
            "mp3_listeners_total": counters.listeners_total,
            "mp3_sent_bytes_total": counters.bytes_sent,
            "mp3_slow_listeners_disconnected_total": counters.disconnected_slow,
            "mp3_encoder_cpu_seconds_total": round(counters.encoder_s, 3),
            "mp3_encoded_seconds_total": round(counters.encoded_audio_s, 3),
            "mp3_silence_seconds_total": round(counters.silence_samples / CLOCK_RATE_HZ, 3),
            "mp3_concealed_packets_total": pcm.concealed_packets,
            "mp3_late_packets_total": pcm.late_packets + counters.late_blocks,
            "mp3_broken_packets_total": pcm.broken_packets,
        }

    async def status(self, request: web.Request) -> web.Response:
        grant = self._grant(request)
        live = live_streams(self._streams, grant)
        return web.json_response(
            {
                "active_streams": [stream.id for stream in live],
                "details": [msgspec.to_builtins(stream.details()) for stream in live],
                "audio_port": self._settings.audio.port,
            },
            headers=self._headers(request),
        )

    async def latest(self, request: web.Request) -> web.StreamResponse:
        """The newest stream; silence while there is none, and whichever comes next."""
        grant = self._grant(request)
        follows = _switch(request, "follow", default=True)
        stream = self._channels.newest_stream(grant)
        if stream is None and "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return web.FileResponse(STATIC_FOLDER / "waiting.html", headers={hdrs.CACHE_CONTROL: "no-store"})
        return await self._play(request, stream, follows, RADIO_NAME, grant)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One stream, to its end."""
        stream_id = request.match_info["stream_id"]
        grant = self._grant(request, stream_id)
        stream = find(self._streams, stream_id)
        if stream is None or not stream.is_live:
            text = "There is no such stream now. /stream/status lists those that are live.\n"
            return web.Response(status=404, text=text, headers=self._headers(request))
        return await self._play(request, stream, False, stream.name, grant)

    async def preflight(self, request: web.Request) -> web.Response:
        """Says which requests a web page may make (the Fetch standard's CORS protocol)."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Range, Icy-MetaData",
            "Access-Control-Max-Age": "86400",
            hdrs.ALLOW: "GET, HEAD, OPTIONS",
        }
        return web.Response(status=204, headers=self._headers(request) | allowed)

    def _grant(self, request: web.Request, stream_id: str | None = None) -> Grant:
        """What the request may hear. Raises 401 or 403."""
        try:
            return self._admission.access.require(request, Scope.RECEIVE, stream_id)
        except web.HTTPException as refusal:
            refusal.headers.update(self._headers(request))
            raise

    async def _play(
        self, request: web.Request, stream: Stream | None, follows: bool, name: str, grant: Grant
    ) -> web.StreamResponse:
        if refused := ENCODING_OPTIONS & request.query.keys():
            text = f"{', '.join(sorted(refused))}: the encoding is the same for all listeners; see the settings.\n"
            raise web.HTTPBadRequest(text=text, headers=self._headers(request))
        chunked = _switch(request, "chunked", default=False) and request.version >= (1, 1)
        icy = IcyInterleaver() if request.headers.get("Icy-MetaData", "").strip() == "1" else None
        headers: dict[str, str] = self._headers(request) | self._audio_headers(name)
        if request.headers.get(hdrs.RANGE, "").replace(" ", "") == "bytes=0-1":
            return self._probed(headers)
        if icy is not None:
            headers["icy-metaint"] = str(METADATA_INTERVAL_BYTES)
        if chunked:
            headers[hdrs.TRANSFER_ENCODING] = "chunked"
        response = LiveResponse(request, headers)
        transport = request.transport
        if request.method == hdrs.METH_HEAD or transport is None:
            return response
        if self.listeners >= self._settings.audio.max_listeners:
            text = "There are as many listeners as the server takes. Try again later.\n"
            return web.Response(status=503, text=text, headers={**self._headers(request), hdrs.RETRY_AFTER: "10"})
        response.send_header()
        listener = Listener(transport, follows=follows, chunked=chunked, icy=icy, grant=grant)
        self._channels.join(listener, stream)
        try:
            await listener.gone
        finally:
            self._channels.leave(listener)
            asyncio.get_running_loop().call_later(self._settings.audio.max_backlog_s, transport.abort)
        return response

    def _probed(self, headers: dict[str, str]) -> web.Response:
        """Two bytes for Safari, which wants to see that ranges work before it plays; their whole is of unknown size."""
        headers = headers | {hdrs.CONTENT_RANGE: "bytes 0-1/*"}
        return web.Response(status=206, body=self._channels.silent_bytes(2), headers=headers)

    def _audio_headers(self, name: str) -> dict[str, str]:
        return {
            "Content-Type": "audio/mpeg",
            "Accept-Ranges": "none",
            "icy-name": printable(name),
            "icy-br": str(self._settings.audio.bitrate_bps // 1000),
            "icy-pub": "0",
        }

    def _headers(self, request: web.Request) -> dict[str, str]:
        """Those of every answer: never cached, and readable by the pages that the settings allow."""
        headers: dict[str, str] = {hdrs.CACHE_CONTROL: "no-store"}
        allowed = self._settings.audio.cors_origins
        if "*" in allowed:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        else:
            headers[hdrs.VARY] = hdrs.ORIGIN
            origin = request.headers.get(hdrs.ORIGIN)
            if origin in allowed:
                headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        return headers


class LiveResponse(web.StreamResponse):
    """An answer without an end, whose header and audio are written straight to the transport.

    aiohttp would send a body of unknown length chunked, which many players do not read.
    """

    def __init__(self, request: web.Request, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self.force_close()
        self._live_request = request
        self._is_sent = False

    def send_header(self) -> None:
        """Sends the header, once."""
        transport = self._live_request.transport
        if self._is_sent or transport is None:
            return
        self._is_sent = True
        version = self._live_request.version
        lines = [f"HTTP/{version.major}.{version.minor} {HTTPStatus.OK} {HTTPStatus.OK.phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Connection: close", "", ""]
        transport.write("\r\n".join(lines).encode())

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.send_header()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing to end: the connection is closed."""


def _switch(request: web.Request, name: str, *, default: bool) -> bool:
    value = request.query.get(name)
    if value is None:
        return default
    if value not in ("0", "1"):
        raise web.HTTPBadRequest(text=f"{name} can be 0 or 1.\n")
    return value == "1"


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="OK")
