"""What `/health` says: whether the server does its work."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

AUDIO_PORT = "audio-port"
"""The problem that the audio port is not open."""
CERTIFICATE = "certificate"
"""The problem that browsers refuse the certificate, or soon will."""
REGISTRY = "registry"
"""The problem that the registry of streams cannot be read."""

MAIN_WORK = frozenset(
    {AUDIO_PORT, REGISTRY, "mp3-clock", "tcp-turns", "timer-wheel", "observer-Sessions", "observer-Channels"}
)
"""Problems with which voices do not reach their listeners: ports, the MP3's clock, the timers of WebRTC, the registry
of streams and those who move listeners by it. With any other one they do."""


def status_of(problems: Iterable[str]) -> str:
    """`ok`; `degraded`, where something beside the main work is wrong; or `failing`."""
    names = set(problems)
    if names & MAIN_WORK:
        return "failing"
    return "degraded" if names else "ok"


def http_status(status: object) -> HTTPStatus:
    """503 for a server that should be started anew."""
    return HTTPStatus.SERVICE_UNAVAILABLE if status == "failing" else HTTPStatus.OK
