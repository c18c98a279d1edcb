"""What a player or a browser asks for with its request's query and headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from aiohttp import hdrs, web

MOST_BURST_S = 10.0
"""Google Cast, the slowest starter that is known, plays after some 10 s of sound."""

MOST_LENGTH_S = 86_400
"""A day."""

_MOST_PLAYED_S = 999_999
"""Eleven days."""

_ENCODING_OPTIONS = {"bitrate", "bitrate_bps", "br", "quality", "format", "codec", "channels", "rate", "sample_rate"}
"""Queries that ask for another encoding. They are refused, so that nobody believes to have got it; other unknown ones
are left alone, as players and proxies add their own."""

_NAVIGATIONS = {"document", "iframe", "frame"}
"""Values of `Sec-Fetch-Dest` (Fetch Metadata, section 2.1) of a request whose answer is shown as a page."""

_LISTENER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?")
"""A float's other spellings (`1e3`, `inf`, `nan`, `1_0`) are not meant by anybody."""


@dataclass(frozen=True)
class PlayRequest:
    """A request for the MP3 or the Ogg."""

    follows: bool
    """`?follow=`: whether `latest` goes on with another stream."""
    chunked: bool
    """`?chunked=1`, where HTTP/1.1 allows it."""
    burst_s: float | None
    """`?burst=`: seconds of the past at once; None for the usual."""
    length_s: int | None
    """`?length=`: seconds of audio that `Content-Length` promises."""
    listener_id: str | None
    """`?listener=`: what `/stream/position` is asked with."""
    wants_icy: bool
    is_probe: bool
    """Safari's, which wants to see that ranges work before it plays."""


def is_navigation(request: web.Request) -> bool:
    """Whether a browser will show the answer as a page. Browsers leave `Sec-Fetch-Dest` out over plain HTTP."""
    destination = request.headers.get("Sec-Fetch-Dest")
    if destination is not None:
        return destination in _NAVIGATIONS
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def play_request(request: web.Request) -> PlayRequest:
    """Reads the request. Raises 400 with what is wrong."""
    if refused := _ENCODING_OPTIONS & request.query.keys():
        raise _bad(f"{', '.join(sorted(refused))}: the encoding is the same for all listeners; see the settings.")
    chunked = _switch(request, "chunked", default=False) and request.version >= (1, 1)
    length_s = _seconds(request, "length", least=1, most=MOST_LENGTH_S)
    if chunked and length_s is not None:
        raise _bad("chunked and length exclude each other: an answer in chunks has no Content-Length.")
    return PlayRequest(
        follows=_switch(request, "follow", default=True),
        chunked=chunked,
        burst_s=_seconds(request, "burst", least=0, most=MOST_BURST_S),
        length_s=None if length_s is None else int(length_s),
        listener_id=_listener_id(request),
        wants_icy=request.headers.get("Icy-MetaData", "").strip() == "1",
        is_probe=request.headers.get(hdrs.RANGE, "").replace(" ", "") == "bytes=0-1",
    )


def ogg_request(request: web.Request) -> PlayRequest:
    """As `play_request`, for the Ogg: metadata is never put into it, and its length in bytes is not known."""
    asked = play_request(request)
    if asked.length_s is not None:
        raise _bad("length is the MP3's: a second of Opus has no certain number of bytes.")
    return replace(asked, wants_icy=False)


def _listener_id(request: web.Request) -> str | None:
    """`?listener=`, or None. Raises 400."""
    value = request.query.get("listener")
    if value is not None and not _LISTENER_ID.fullmatch(value):
        raise _bad("listener can be 1 to 64 letters, digits, - and _.")
    return value


def position_request(request: web.Request) -> tuple[str, float]:
    """`?listener=` and `?played=`, seconds of the MP3 that were played. Raises 400."""
    asked_id = _listener_id(request)
    played_s = _seconds(request, "played", least=0, most=_MOST_PLAYED_S)
    if asked_id is None or played_s is None:
        raise _bad("listener and played (seconds) are needed.")
    return asked_id, played_s


def _switch(request: web.Request, name: str, *, default: bool) -> bool:
    value = request.query.get(name)
    if value is None:
        return default
    if value not in ("0", "1"):
        raise _bad(f"{name} can be 0 or 1.")
    return value == "1"


def _seconds(request: web.Request, name: str, *, least: float, most: float) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    value = float(text) if _SECONDS.fullmatch(text) else None
    if value is None or not least <= value <= most:
        raise _bad(f"{name} can be {least:g} to {most:g} seconds.")
    return value


def _bad(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"{text}\n")
