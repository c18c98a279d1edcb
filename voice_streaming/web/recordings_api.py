"""`/api/recordings`: recordings are listed, played, started, stopped and removed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from msgspec import Meta, Struct

from ..access.access import Access
from ..process.refusal import Refused
from ..recording import conversion
from ..recording.library import Library
from ..recording.model import Recording, State
from ..recording.ogg_file import NotARecording
from ..recording.recorder import Recorder
from ..settings.model import AudioSettings
from ..streams.grants import EVERYTHING, Grant, Scope
from ..streams.registry import Streams
from .problems import problem, problem_of
from .recordings_query import page_of, query_of

SOUND_TYPE = "audio/ogg; codecs=opus"
MOST_BODY_BYTES = 4096
MOST_CONVERSIONS = 2
"""MP3s and waveforms that are made at once: each takes a core."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Result = TypeVar("Result")


class StartRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/recordings`."""

    stream: Annotated[str, Meta(min_length=1, max_length=200)]
    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class RecordingsApi:
    """For those who may: with tokens, the scope `recordings` or `admin`; without, where `recording.open` says so."""

    def __init__(self, recorder: Recorder, streams: Streams, access: Access, audio: AudioSettings) -> None:
        self._recorder = recorder
        self._streams = streams
        self._access = access
        self._audio = audio
        self._converting = 0
        self._threads = ThreadPoolExecutor(MOST_CONVERSIONS, "recording-conversion")

    def routes(self) -> list[web.RouteDef]:
        # Without a dot, so that endings are of other resources.
        one = "/api/recordings/{id:[^./]+}"
        return [
            web.get("/api/recordings", self._answering(self._list)),
            web.post("/api/recordings", self._answering(self._start)),
            web.get(one, self._answering(self._show)),
            web.delete(one, self._answering(self._delete)),
            web.post(f"{one}/stop", self._answering(self._stop)),
            web.get(f"{one}/peaks", self._answering(self._peaks)),
            web.get(f"{one}.opus", self._answering(self._play)),
            web.get(f"{one}.mp3", self._answering(self._play_mp3)),
        ]

    def close(self) -> None:
        """Conversions that are going on end with their step."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answering(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refused as refusal:
                return problem_of(refusal)
            except NotARecording as error:
                return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The file is damaged: {error}")
            except OSError as error:
                return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"The disk fails: {error.strerror or error}")

        return handle

    def _grant(self, request: web.Request) -> Grant:
        """What the request may do with recordings of which streams. Raises 401, and Refused `unauthorized`."""
        settings = self._recorder.settings
        if settings.ingress and self._access.is_user_of_ingress(request):
            return EVERYTHING
        if not self._access.wants_tokens:
            if settings.open:
                return EVERYTHING
            raise Refused("unauthorized", "Recordings need a token, and this server has none: see recording.open")
        grant = self._access.grant(request)
        if not grant.scopes & {Scope.RECORDINGS, Scope.ADMIN}:
            raise Refused("unauthorized", "This needs a token with the scope recordings or admin")
        return grant

    async def _list(self, request: web.Request) -> web.Response:
        grant = self._grant(request)
        query = query_of(request.query)
        library = self._recorder.library.recordings.values()
        visible = [
            recording for recording in [*self._recorder.active(), *library] if recording.may_be_heard_with(grant)
        ]
        recordings, cursor = page_of(visible, query)
        return _json({"recordings": recordings, "cursor": cursor})

    async def _show(self, request: web.Request) -> web.Response:
        return _json(self._recording(request))

    async def _start(self, request: web.Request) -> web.Response:
        grant = self._grant(request)
        asked = await _body(request)
        stream = self._streams.find(asked.stream)
        if stream is None or not stream.is_live or not stream.may_be_heard_with(grant):
            raise Refused("no_such_stream", f"There is no live stream {asked.stream}")
        recording = self._recorder.start(stream, asked.seconds)
        where = f"{self._access.path_prefix(request)}/api/recordings/{recording.id}"
        return _json(recording, HTTPStatus.CREATED, {hdrs.LOCATION: where})

    async def _stop(self, request: web.Request) -> web.Response:
        return _json(self._recorder.stop(self._recording(request).id))

    async def _delete(self, request: web.Request) -> web.Response:
        await self._recorder.remove(self._recording(request).id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _play(self, request: web.Request) -> web.StreamResponse:
        """With Range and ETag (RFC 9110 sections 14 and 8.8.3)."""
        recording = self._finished(request)
        headers = {hdrs.CONTENT_TYPE: SOUND_TYPE, hdrs.CACHE_CONTROL: "private, no-cache"}
        return _PlayedFile(self._recorder.library, recording, headers | _disposition(request, recording.file))

    async def _play_mp3(self, request: web.Request) -> web.StreamResponse:
        recording = self._finished(request)
        name = recording.file.removesuffix(".opus") + ".mp3"
        headers = {hdrs.CONTENT_TYPE: "audio/mpeg", hdrs.CACHE_CONTROL: "private, no-cache"}
        response = web.StreamResponse(headers=headers | _disposition(request, name))
        with self._recorder.library.playing(recording) as path:
            steps = conversion.mp3(path, self._audio.bitrate_bps, self._audio.sample_rate_hz)
            first = await self._convert(functools.partial(next, steps, None))
            await response.prepare(request)
            await self._send(response, first, steps)
        return response

    async def _send(self, response: web.StreamResponse, first: bytes | None, steps: Iterator[bytes]) -> None:
        chunk = first
        while chunk is not None:
            await response.write(chunk)
            chunk = await self._in_thread(functools.partial(next, steps, None))
        await response.write_eof()

    async def _peaks(self, request: web.Request) -> web.Response:
        recording = self._finished(request)
        with self._recorder.library.playing(recording) as path:
            return _json(await self._convert(functools.partial(conversion.peaks, path)))

    async def _convert(self, work: Callable[[], Result]) -> Result:
        """In a thread, of which there are few; Refused `busy` where many wait."""
        if self._converting >= 8 * MOST_CONVERSIONS:
            raise Refused("busy", "Many recordings are being converted: try again in some seconds")
        self._converting += 1
        try:
            return await self._in_thread(work)
        finally:
            self._converting -= 1

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _recording(self, request: web.Request) -> Recording:
        """That of the request's path, if the request may know of it. Raises Refused."""
        grant = self._grant(request)
        recording = self._recorder.find(request.match_info["id"])
        if recording is None or not recording.may_be_heard_with(grant):
            raise Refused("no_recording", "There is no such recording")
        return recording

    def _finished(self, request: web.Request) -> Recording:
        recording = self._recording(request)
        if recording.state is not State.FINISHED:
            raise Refused("being_recorded", "This is being recorded: it can be played when that is over")
        return recording


class _PlayedFile(web.FileResponse):
    """Counts as played until its last byte."""

    def __init__(self, library: Library, recording: Recording, headers: dict[str, str]) -> None:
        super().__init__(library.folder / recording.file, headers=headers)
        self._library = library
        self._recording = recording

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        with self._library.playing(self._recording):
            return await super().prepare(request)


async def _body(request: web.Request) -> StartRequest:
    """Raises Refused `bad_request`."""
    body = await request.content.read(MOST_BODY_BYTES + 1)
    while len(body) <= MOST_BODY_BYTES and (more := await request.content.read(MOST_BODY_BYTES)):
        body += more
    if len(body) > MOST_BODY_BYTES:
        raise Refused("bad_request", f"The body has more than {MOST_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=StartRequest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused("bad_request", f'The body is to be {{"stream": "…", "seconds": 60}}: {error}') from None


def _disposition(request: web.Request, file_name: str) -> dict[str, str]:
    """A name to save it by, with `?download=1` (RFC 6266, RFC 8187)."""
    if request.query.get("download") != "1":
        return {}
    return {hdrs.CONTENT_DISPOSITION: f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"}


def _json(value: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )
