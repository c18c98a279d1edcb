"""`GET /api/openapi.json`: the HTTP API below `/api`, described by OpenAPI 3.1."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from .. import __version__
from ..recording.conversion import Peaks
from ..recording.model import Recording
from ..streams.rooms import RoomState
from .problems import CONTENT_TYPE as PROBLEM_TYPE
from .recordings_api import SOUND_TYPE, StartRequest
from .recordings_query import MOST_LISTED, USUALLY_LISTED

_SCHEMAS_AT = "#/components/schemas/{name}"
_ID: dict[str, Any] = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_DOWNLOAD: dict[str, Any] = {
    "name": "download",
    "in": "query",
    "description": "With 1 it comes with a file's name to save it by.",
    "schema": {"type": "string"},
}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}


def document() -> dict[str, Any]:
    """The whole of it."""
    _, schemas = msgspec.json.schema_components((Recording, Peaks, StartRequest, RoomState), ref_template=_SCHEMAS_AT)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Voice streaming", "version": __version__},
        "paths": {
            "/api/rooms": {"get": _rooms()},
            "/api/recordings": {"get": _list(), "post": _start()},
            "/api/recordings/{id}": {"parameters": [_ID], "get": _show(), "delete": _delete()},
            "/api/recordings/{id}/stop": {"parameters": [_ID], "post": _stop()},
            "/api/recordings/{id}/peaks": {"parameters": [_ID], "get": _peaks()},
            "/api/recordings/{id}.opus": {"parameters": [_ID], "get": _opus()},
            "/api/recordings/{id}.mp3": {"parameters": [_ID], "get": _mp3()},
        },
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Where the server has no tokens, none is needed.
        "security": [{}, {"token": []}],
    }


async def answer(request: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode(document()), content_type="application/json")


def routes() -> list[web.RouteDef]:
    return [web.get("/api/openapi.json", answer)]


_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _SCHEMAS_AT.format(name=name)}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: HTTPStatus) -> dict[str, Any]:
    """What may be answered in place of what was asked for; 401 of any request is plain text."""
    content = {PROBLEM_TYPE: {"schema": _ref("Problem")}}
    found: dict[str, Any] = {"401": {"description": "A token is needed", "content": {"text/plain": {}}}}
    for status in statuses:
        found[str(int(status))] = {"description": status.phrase, "content": content}
    # What is no path of the API at all is answered in plain text.
    found["404"] = {"description": "There is none", "content": {**content, "text/plain": {}}}
    found["403"] = {"description": "Not for this token, or this page", "content": {**content, "text/plain": {}}}
    return found


def _rooms() -> dict[str, Any]:
    listed = {"type": "object", "properties": {"rooms": {"type": "array", "items": _ref("RoomState")}}}
    return {
        "summary": "The rooms, who stands in them and who talks there",
        "responses": {"200": _json("The rooms that the token covers", listed), **_refusals()},
    }


def _list() -> dict[str, Any]:
    listed = {
        "type": "object",
        "properties": {
            "recordings": {"type": "array", "items": _ref("Recording")},
            "cursor": {"type": ["string", "null"], "description": "For those that follow; null: there are none"},
        },
        "required": ["recordings", "cursor"],
    }
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": USUALLY_LISTED}
    parameters = {"stream": {"type": "string"}, "since": _TIME, "until": _TIME, "limit": limit}
    return {
        "summary": "Recordings, the newest first",
        "parameters": [
            *({"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()),
            {"name": "cursor", "in": "query", "schema": {"type": "string"}},
        ],
        "responses": {"200": _json("Some of them", listed), **_refusals(HTTPStatus.BAD_REQUEST)},
    }


def _start() -> dict[str, Any]:
    created = _json("It is being made", _ref("Recording"))
    created["headers"] = {"Location": {"schema": {"type": "string"}}}
    refused = HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE
    return {
        "summary": "Records a live stream, for some seconds or to its end",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("StartRequest")}}},
        "responses": {"201": created, **_refusals(*refused)},
    }


def _show() -> dict[str, Any]:
    return {
        "summary": "One recording",
        "responses": {"200": _json("It", _ref("Recording")), **_refusals(HTTPStatus.NOT_FOUND)},
    }


def _delete() -> dict[str, Any]:
    refused = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE
    return {"summary": "Removes it", "responses": {"204": {"description": "It is gone"}, **_refusals(*refused)}}


def _stop() -> dict[str, Any]:
    refused = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
    return {
        "summary": "Ends it",
        "responses": {"200": _json("What it is like", _ref("Recording")), **_refusals(*refused)},
    }


_NOT_PLAYED = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def _peaks() -> dict[str, Any]:
    return {
        "summary": "Its waveform",
        "responses": {"200": _json("How loud its parts are", _ref("Peaks")), **_refusals(*_NOT_PLAYED)},
    }


def _opus() -> dict[str, Any]:
    sound: dict[str, Any] = {"content": {SOUND_TYPE: {}}}
    return {
        "summary": "Its sound as it came, with Range and ETag",
        "parameters": [_DOWNLOAD],
        "responses": {
            "200": {"description": "All of it", **sound},
            "206": {"description": "The range that was asked for", **sound},
            "304": {"description": "As the client has it"},
            "416": {"description": "There is no such range"},
            **_refusals(*_NOT_PLAYED),
        },
    }


def _mp3() -> dict[str, Any]:
    return {
        "summary": "Its sound as MP3, made while it is read",
        "parameters": [_DOWNLOAD],
        "responses": {"200": {"description": "All of it", "content": {"audio/mpeg": {}}}, **_refusals(*_NOT_PLAYED)},
    }
