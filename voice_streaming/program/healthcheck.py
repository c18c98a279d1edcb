"""`python -m voice_streaming.program.healthcheck`: the container's health check. Exit code 0 for a healthy server.

Reads the settings as the server does, except for its command line. It runs every half minute, so it imports little.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

import msgspec

from ..network.addresses import local_address
from ..settings.model import ConfigError, Settings
from .configuration import DEFAULT_CONFIG, load

TIMEOUT_S = 4.0
"""Less than the container engine's own limit (HEALTHCHECK --timeout), so that the reason is printed."""


MAX_ANSWER_BYTES = 65_536
"""The server's own answer has less than 1,000, and what others answer is not of interest."""


class _Health(msgspec.Struct):
    problems: dict[str, str]


def main() -> int:
    given = os.environ.get("CONFIG")
    try:
        settings = load(Path(given) if given else None, os.environ, {}, default_path=DEFAULT_CONFIG)
        host, port = health_address(settings)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        connection.request("GET", "/health")
        response = connection.getresponse()
        status, problems = response.status, _problems(response.read(MAX_ANSWER_BYTES))
    except (ConfigError, OSError, http.client.HTTPException) as error:
        return _say(f"no answer: {error}", 1)
    return _say(f"/health answers {status}{problems}", 0 if status == http.HTTPStatus.OK else 1)


def _problems(body: bytes) -> str:
    """What the answer says to be wrong, to be shown behind the status; empty for something else's answer."""
    try:
        problems = msgspec.json.decode(body, type=_Health).problems
    except msgspec.DecodeError:  # Another program has the port.
        return ""
    return "".join(f", {name}: {cause}" for name, cause in problems.items())


def health_address(settings: Settings) -> tuple[str, int]:
    """The address of `/health`. In an add-on at ingress's port, which the user cannot change."""
    return local_address(settings.server.host), settings.server.ingress_port or settings.server.port


def _say(text: str, code: int) -> int:
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
