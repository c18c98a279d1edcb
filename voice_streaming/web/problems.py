"""Refusals over HTTP: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from ..access.limits import RETRY_AFTER_S
from ..process.refusal import Refused

CONTENT_TYPE = "application/problem+json"

_STATUS_OF = {
    "bad_sdp": HTTPStatus.BAD_REQUEST,
    "bad_fragment": HTTPStatus.BAD_REQUEST,
    "bad_name": HTTPStatus.BAD_REQUEST,
    "bad_request": HTTPStatus.BAD_REQUEST,
    "no_such_stream": HTTPStatus.NOT_FOUND,
    "no_recording": HTTPStatus.NOT_FOUND,
    "not_recording": HTTPStatus.CONFLICT,
    "already_recorded": HTTPStatus.CONFLICT,
    "being_recorded": HTTPStatus.CONFLICT,
    "recorded_elsewhere": HTTPStatus.CONFLICT,
    "recording_off": HTTPStatus.CONFLICT,
    "recording_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "no_opus": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unauthorized": HTTPStatus.FORBIDDEN,
    "name_taken": HTTPStatus.CONFLICT,
    "no_stream": HTTPStatus.CONFLICT,
    "stream_ended": HTTPStatus.CONFLICT,
    "unexpected_candidate": HTTPStatus.CONFLICT,
    "sdp_too_long": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_many_candidates": HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_streams": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_receivers": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_negotiations": HTTPStatus.SERVICE_UNAVAILABLE,
}
_TRY_AGAIN = {
    "no_stream",
    "stream_ended",
    "too_many_streams",
    "too_many_receivers",
    "too_many_negotiations",
    "busy",
    "recording_failed",
}
"""What may be otherwise soon."""


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """One sentence for people, and the status for programs."""
    body = msgspec.json.encode({"title": status.phrase, "status": int(status), "detail": detail})
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE, headers=headers)


def problem_of(refusal: Refused) -> web.Response:
    """The answer that a refusal is."""
    headers: dict[str, str] = {}
    if refusal.code in _TRY_AGAIN:
        headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_S)
    return problem(_STATUS_OF.get(refusal.code, HTTPStatus.BAD_REQUEST), str(refusal), headers)
