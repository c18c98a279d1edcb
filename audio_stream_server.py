"""Live audio over HTTP, as MP3 and as Opus in Ogg, for everything that cannot speak WebRTC."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
from aiohttp import hdrs, web
from yarl import URL

from voice_streaming.access.admission import Admission
from voice_streaming.listening.answers import (
    PLAYLIST_TYPE,
    RADIO_NAME,
    LiveResponse,
    common_headers,
    dlna_headers,
    length_headers,
    mp3_headers,
    ogg_headers,
    playlist,
    probed,
)
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.icy import IcyInterleaver
from voice_streaming.listening.listeners import Listener
from voice_streaming.listening.mp3 import Mp3Counters
from voice_streaming.listening.ogg_channels import OggChannels
from voice_streaming.listening.requests import PlayRequest, is_navigation, ogg_request, play_request, position_request
from voice_streaming.listening.room_radio import RoomRadios
from voice_streaming.process.failures import Failures
from voice_streaming.process.refusal import Refused
from voice_streaming.settings.model import Settings
from voice_streaming.streams.grants import Grant, Scope
from voice_streaming.streams.names import name_key
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, live_streams
from voice_streaming.web import pages
from voice_streaming.web.static_files import revalidate_scripts

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AudioStreamServer:
    """Serves the streams of the registry, on a port of its own and in each application that adds its `routes`.

    It observes the registry; streams' `listeners` and `last_activity` are kept here.
    """

    def __init__(
        self,
        settings: Settings,
        relay: VoiceRelay,
        streams: Streams,
        admission: Admission | None = None,
        failures: Failures | None = None,
        radios: RoomRadios | None = None,
    ) -> None:
        """To be made with a running loop. `admission` is the main server's; without it, a new one is made.

        Without `radios` no rooms are served.
        """
        self._radios = radios
        self._settings = settings
        self._relay = relay
        self._admission = admission or Admission(settings, streams.active, failures)
        self._registry = streams
        self._streams = streams.active
        self._channels = Channels(settings.audio, relay, streams.active, failures)
        streams.observe(self._channels)
        self._ogg_channels = OggChannels(
            settings.audio, settings.webrtc.opus_bitrate_bps, relay, streams.active, failures
        )
        streams.observe(self._ogg_channels)
        self._identified: dict[str, tuple[Listener, Channels | OggChannels]] = {}
        """Listeners that gave an id of their own, by that; of two with the same, the newer."""
        self._runner: web.AppRunner | None = None

    @property
    def counters(self) -> Mp3Counters:
        return self._channels.counters

    @property
    def listeners(self) -> int:
        """Players connected now, to streams and to silence."""
        return self._channels.listeners + self._ogg_channels.listeners

    @property
    def encoders(self) -> int:
        """Streams that are being encoded now."""
        return self._channels.encoders

    @property
    def is_running(self) -> bool:
        return self._runner is not None and self._admission.ports.is_listening(self._settings.audio.port)

    async def start(self) -> None:
        """Opens the port; raises OSError when it is in use."""
        app = self._admission.application()
        app.add_routes(self.routes())
        app.add_routes([web.get("/health", _health), *pages.routes()])
        app.on_response_prepare.append(revalidate_scripts)
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
        """Disconnects all listeners, those on other ports too, and closes the port."""
        self._channels.close()
        self._ogg_channels.close()
        self._admission.ports.stop_listening()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def routes(self) -> list[web.RouteDef]:
        """For every application that is to serve the audio."""
        handlers: dict[str, Handler] = {
            "/stream/status": self.status,
            "/stream/position": self.position,
            "/stream/latest.mp3": self.latest,
            "/stream/latest.ogg": self.latest_ogg,
            "/stream/latest.m3u": self.latest_playlist,
            "/stream/latest.ogg.m3u": self.latest_playlist,
            # Before those that would take it for a stream's name.
            "/stream/{stream_id}.ogg.m3u": self.stream_playlist,
            "/stream/{stream_id}.mp3": self.stream,
            "/stream/{stream_id}.ogg": self.stream_ogg,
            "/stream/{stream_id}.m3u": self.stream_playlist,
        }
        if self._radios is not None:
            handlers["/room/{room}.mp3"] = functools.partial(self.room, self._radios)
            handlers["/room/{room}.ogg"] = functools.partial(self.room_ogg, self._radios)
        routes = []
        for path, handler in handlers.items():
            # One after the other, so that both are of one resource: other methods are 405, other paths 404.
            routes += [web.get(path, handler), web.options(path, self.preflight)]
        return routes

    def figures(self) -> dict[str, float]:
        """The counters, by the names they have in `/metrics`."""
        return {**self._ogg_channels.figures(), **self._channels.figures(self._relay.pcm_counters)}

    async def status(self, request: web.Request) -> web.Response:
        grant = self._grant(request)
        live = live_streams(self._streams, grant)
        return web.json_response(
            {
                "active_streams": [stream.id for stream in live],
                "details": [msgspec.to_builtins(stream.details()) for stream in live],
                "port": self._settings.server.port,
                "audio_port": self._settings.audio.port,
            },
            headers=self._headers(request),
        )

    async def position(self, request: web.Request) -> web.Response:
        """How far behind live a listener is, by what it has played."""
        self._grant(request)
        with self._readable(request):
            listener_id, seconds = position_request(request)
        identified = self._identified.get(listener_id)
        if identified is None:
            text = "There is no such listener: ask with what was given as ?listener= with the audio's address.\n"
            raise web.HTTPNotFound(text=text, headers=self._headers(request))
        listener, channels = identified
        behind_s = round(channels.behind_s(listener, seconds), 3)
        return web.json_response({"behind_s": behind_s}, headers=self._headers(request))

    async def latest(self, request: web.Request) -> web.StreamResponse:
        """The newest stream; silence while there is none."""
        grant = self._grant(request)
        if is_navigation(request):
            return self._player_page(request)
        asked = self._asked(request)
        return await self._play_mp3(request, asked, self._channels.newest_stream(grant), RADIO_NAME, grant)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One stream, to its end."""
        grant = self._stream_grant(request)
        if is_navigation(request):
            return self._player_page(request)
        stream = await self._live_stream(request, grant)
        asked = replace(self._asked(request), follows=False)
        return await self._play_mp3(request, asked, stream, stream.name, grant)

    async def latest_ogg(self, request: web.Request) -> web.StreamResponse:
        """As `latest`, in Ogg."""
        grant = self._grant(request)
        if is_navigation(request):
            raise self._to_player_page(request)
        with self._readable(request):
            asked = ogg_request(request)
        return await self._play_ogg(request, asked, self._channels.newest_stream(grant), RADIO_NAME, grant)

    async def stream_ogg(self, request: web.Request) -> web.StreamResponse:
        """As `stream`, in Ogg."""
        grant = self._stream_grant(request)
        if is_navigation(request):
            raise self._to_player_page(request)
        stream = await self._live_stream(request, grant)
        with self._readable(request):
            asked = replace(ogg_request(request), follows=False)
        return await self._play_ogg(request, asked, stream, stream.name, grant)

    async def room(self, radios: RoomRadios, request: web.Request) -> web.StreamResponse:
        """Whoever talks in a room; silence while nobody does."""
        grant = self._room_grant(request)
        asked = replace(self._asked(request), follows=False)
        with self._playing(radios, request, grant) as stream:
            return await self._play_mp3(request, asked, stream, stream.name, grant)

    async def room_ogg(self, radios: RoomRadios, request: web.Request) -> web.StreamResponse:
        """As `room`, in Ogg."""
        grant = self._room_grant(request)
        with self._readable(request):
            asked = replace(ogg_request(request), follows=False)
        with self._playing(radios, request, grant) as stream:
            return await self._play_ogg(request, asked, stream, stream.name, grant)

    def _room_grant(self, request: web.Request) -> Grant:
        """What the request may hear, the room of its path among it. Raises 401 or 403."""
        grant = self._grant(request)
        if not grant.covers_room(name_key(request.match_info["room"])):
            text = "This needs a token that covers the room.\n"
            raise web.HTTPForbidden(text=text, headers=self._headers(request))
        return grant

    @contextmanager
    def _playing(self, radios: RoomRadios, request: web.Request, grant: Grant) -> Iterator[Stream]:
        """The stream of the room of the request's path, for as long as the block runs. Raises 404."""
        try:
            with radios.playing(request.match_info["room"], grant) as stream:
                yield stream
        except Refused as refusal:
            raise web.HTTPNotFound(text=f"{refusal}\n", headers=self._headers(request)) from None

    async def latest_playlist(self, request: web.Request) -> web.Response:
        self._grant(request)
        return self._playlist(request, RADIO_NAME)

    async def stream_playlist(self, request: web.Request) -> web.Response:
        grant = self._stream_grant(request)
        return self._playlist(request, (await self._live_stream(request, grant)).name)

    async def preflight(self, request: web.Request) -> web.Response:
        """Answers a CORS preflight: the requests that a web page may make (the Fetch standard)."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Range, Icy-MetaData",
            "Access-Control-Max-Age": "86400",
            hdrs.ALLOW: "GET, HEAD, OPTIONS",
        }
        return web.Response(status=204, headers=self._headers(request) | allowed)

    def _grant(self, request: web.Request, stream_id: str | None = None) -> Grant:
        """What the request may hear. Raises 401 or 403."""
        with self._readable(request):
            return self._admission.access.require(request, Scope.RECEIVE, stream_id)

    def _stream_grant(self, request: web.Request) -> Grant:
        """What the request may hear, the stream of its path among it. Raises 401 or 403."""
        stream = self._registry.find(request.match_info["stream_id"])
        if stream is not None and stream.is_live and stream.rooms:
            # Not by its name: who may not hear it is told that there is none.
            return self._grant(request)
        return self._grant(request, request.match_info["stream_id"])

    def _asked(self, request: web.Request) -> PlayRequest:
        with self._readable(request):
            return play_request(request)

    @contextmanager
    def _readable(self, request: web.Request) -> Iterator[None]:
        """Refusals within the block get the headers of every answer, so that pages can read them."""
        try:
            yield
        except web.HTTPException as refusal:
            refusal.headers.update(self._headers(request))
            raise

    async def _live_stream(self, request: web.Request, grant: Grant) -> Stream:
        """The stream of the request's path, begun if it can be had on demand.

        Raises 404 when it is not live, so that a player stops asking.
        """
        stream_id = request.match_info["stream_id"]
        stream = self._registry.find(stream_id)
        if stream is not None and stream.is_live and stream.may_be_heard_with(grant):
            return stream
        try:
            return await self._registry.obtain(stream_id, grant)
        except Refused:
            text = "There is no such stream now. /stream/status lists those that are live.\n"
            raise web.HTTPNotFound(text=text, headers=self._headers(request)) from None

    def _player_page(self, request: web.Request) -> web.Response:
        return pages.page(request, "waiting.html", self._headers(request))

    def _to_player_page(self, request: web.Request) -> web.HTTPFound:
        """The page is at the MP3's address, beside this one whatever prefix a proxy has put before it."""
        url = request.rel_url
        beside = URL.build(path=url.name.removesuffix(".ogg") + ".mp3", query=url.query)
        return web.HTTPFound(beside, headers=self._headers(request))

    def _playlist(self, request: web.Request, name: str) -> web.Response:
        headers = self._headers(request) | {hdrs.CONTENT_TYPE: PLAYLIST_TYPE}
        return web.Response(body=playlist(request, name).encode(), headers=headers)

    async def _play_mp3(
        self, request: web.Request, asked: PlayRequest, stream: Stream | None, name: str, grant: Grant
    ) -> web.StreamResponse:
        bitrate_bps = self._settings.audio.bitrate_bps
        headers = self._headers(request) | mp3_headers(name, bitrate_bps) | dlna_headers(request.headers)
        if asked.is_probe:
            return probed(headers, self._channels.silent_bytes(2))
        response = LiveResponse(request, headers | length_headers(asked, bitrate_bps / 8))
        return await self._play(request, response, asked, self._channels, stream, grant)

    async def _play_ogg(
        self, request: web.Request, asked: PlayRequest, stream: Stream | None, name: str, grant: Grant
    ) -> web.StreamResponse:
        headers = self._headers(request) | ogg_headers(name)
        if asked.is_probe:
            return probed(headers, b"Og")
        response = LiveResponse(request, headers | length_headers(asked, 0))
        return await self._play(request, response, asked, self._ogg_channels, stream, grant)

    async def _play(
        self,
        request: web.Request,
        response: LiveResponse,
        asked: PlayRequest,
        channels: Channels | OggChannels,
        stream: Stream | None,
        grant: Grant,
    ) -> web.StreamResponse:
        audio = self._settings.audio
        transport = request.transport
        if request.method == hdrs.METH_HEAD or transport is None:
            return response
        if self.listeners >= audio.max_listeners:
            text = "There are as many listeners as the server takes. Try again later.\n"
            return web.Response(status=503, text=text, headers={**self._headers(request), hdrs.RETRY_AFTER: "10"})
        response.send_header()
        listener = Listener(
            transport,
            follows=asked.follows,
            chunked=asked.chunked,
            icy=IcyInterleaver() if asked.wants_icy else None,
            most_bytes=response.content_length,
            grant=grant,
        )
        channels.join(listener, stream, asked.burst_s)
        identified = listener, channels
        if asked.listener_id is not None:
            self._identified[asked.listener_id] = identified
        try:
            await listener.gone
        finally:
            channels.leave(listener)
            if asked.listener_id is not None and self._identified.get(asked.listener_id) is identified:
                del self._identified[asked.listener_id]
            asyncio.get_running_loop().call_later(audio.max_backlog_s, transport.abort)
        return response

    def _headers(self, request: web.Request) -> dict[str, str]:
        """Those of every answer."""
        origin, is_own_page = request.headers.get(hdrs.ORIGIN), self._admission.access.is_own_page(request)
        return common_headers(origin, self._settings.audio.cors_origins, is_own_page)


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="OK")
