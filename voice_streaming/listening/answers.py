"""What players are answered: headers, audio without an end, and playlists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from .icy import METADATA_INTERVAL_BYTES, printable
from .requests import PlayRequest

PLAYLIST_TYPE = "audio/x-mpegurl"

RADIO_NAME = "Live voice"
"""The name that players show for `latest`."""

_DLNA_FEATURES = "DLNA.ORG_PN=MP3;DLNA.ORG_OP=00;DLNA.ORG_CI=0;DLNA.ORG_FLAGS=8D100000000000000000000000000000"
"""DLNA guidelines, section 7.4.1.3: MP3, no seeking, not converted; paced by the sender, its begin and end move on, for
streaming, version 1.5."""


def common_headers(origin: str | None, allowed: Collection[str], is_own_page: bool) -> dict[str, str]:
    """Of every answer: never cached, taken for nothing else, and readable by the pages that may (the Fetch standard).

    `origin` is the page's, if there is one; `allowed` are those of other hosts that may read it, `*` is any.
    """
    headers: dict[str, str] = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}
    if "*" in allowed:
        return headers | {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
    headers[hdrs.VARY] = hdrs.ORIGIN
    if origin is not None and (origin in allowed or is_own_page):
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    return headers


def probed(headers: Mapping[str, str], first_bytes: bytes) -> web.Response:
    """Two bytes for Safari, which wants to see that ranges work before it plays; their whole is of unknown size."""
    headers = {**headers, hdrs.CONTENT_RANGE: "bytes 0-1/*", hdrs.ACCEPT_RANGES: "bytes"}
    return web.Response(status=206, body=first_bytes, headers=headers)


def mp3_headers(name: str, bitrate_bps: int) -> dict[str, str]:
    """Of every answer that is MP3, or would be to a GET."""
    return {hdrs.CONTENT_TYPE: "audio/mpeg", "icy-br": str(bitrate_bps // 1000), **_audio_headers(name)}


def ogg_headers(name: str) -> dict[str, str]:
    """Of every answer that is Opus in Ogg, or would be to a GET (RFC 7845 section 9)."""
    return {hdrs.CONTENT_TYPE: "audio/ogg; codecs=opus", **_audio_headers(name)}


def _audio_headers(name: str) -> dict[str, str]:
    return {
        hdrs.ACCEPT_RANGES: "none",
        "X-Accel-Buffering": "no",
        "icy-name": printable(name),
        "icy-pub": "0",
    }


def length_headers(asked: PlayRequest, bytes_per_s: float) -> dict[str, str]:
    """How the body is delimited, beside the end of the connection; and whether metadata is in it."""
    headers = {}
    if asked.wants_icy:
        headers["icy-metaint"] = str(METADATA_INTERVAL_BYTES)
    if asked.chunked:
        headers[hdrs.TRANSFER_ENCODING] = "chunked"
    if asked.length_s is not None:
        headers[hdrs.CONTENT_LENGTH] = str(int(asked.length_s * bytes_per_s))
    return headers


def dlna_headers(request: Mapping[str, str]) -> dict[str, str]:
    """What a DLNA renderer asks for: nothing of it goes to others."""
    headers = {}
    if "transferMode.dlna.org" in request:
        headers["transferMode.dlna.org"] = "Streaming"
    if request.get("getcontentFeatures.dlna.org", "").strip() == "1":
        headers["contentFeatures.dlna.org"] = _DLNA_FEATURES
    return headers


def playlist(request: web.Request, name: str) -> str:
    """An M3U with the MP3 or the Ogg beside it, by the address that the client used and with the same query.

    The address is a whole one: Google Cast through Home Assistant, for one, takes no relative ones.
    """
    beside = request.rel_url.raw_path.removesuffix(".m3u")
    path = beside if beside.endswith(".ogg") else f"{beside}.mp3"
    query = request.rel_url.raw_query_string
    address = f"{request.scheme}://{request.host}{path}{'?' if query else ''}{query}"
    return f"#EXTM3U\n#EXTINF:-1,{printable(name)}\n{printable(address)}\n"


class LiveResponse(web.StreamResponse):
    """An answer without an end, whose header and audio are written straight to the transport.

    aiohttp would send a body of unknown length chunked, which many players do not read.
    """

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self.headers[hdrs.DATE] = formatdate(usegmt=True)
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
