"""A client of Home Assistant's Supervisor, for the add-on. The server runs without it, too."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Mapping

import aiohttp

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""It runs on this machine, and answers in milliseconds."""

NETWORK_KEYS = {"8080/tcp": "server.port", "8443/tcp": "server.tls_port", "8081/tcp": "audio.port"}
"""The ports on the add-on's page, under Network, and the setting of each."""

DISCOVERY_SERVICE = "voice_streaming"


class SupervisorError(Exception):
    """The Supervisor does not answer, or refuses; the message says which."""


class Supervisor:
    """The Supervisor's API for add-ons (developer documentation, "App communication")."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Supervisor | None:
        """The Supervisor that started this add-on; None outside of an add-on."""
        token = environment.get("SUPERVISOR_TOKEN")
        return cls(f"http://{environment.get('SUPERVISOR', 'supervisor')}", token) if token else None

    def network_ports(self) -> dict[str, int]:
        """The user's ports under Network, by the setting's dotted key. Blocks. Raises SupervisorError.

        An add-on on the host's network has to open these itself, as no port is forwarded to it.
        """
        request = urllib.request.Request(f"{self._url}/addons/self/info", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                network = json.load(reply)["data"]["network"] or {}
            return {key: int(network[port]) for port, key in NETWORK_KEYS.items() if network.get(port)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SupervisorError(f"The Supervisor does not tell the ports: {error!r}") from error

    async def announce(self, config: Mapping[str, object]) -> None:
        """Offers this server to Home Assistant's integrations. Raises SupervisorError.

        It is never withdrawn: the Supervisor keeps it while the add-on is installed, and passes it on while it runs.
        """
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        body = {"service": DISCOVERY_SERVICE, "config": dict(config)}
        try:
            async with (
                aiohttp.ClientSession(headers=self._headers, timeout=timeout) as http,
                http.post(f"{self._url}/discovery", json=body) as reply,
            ):
                if reply.status != 200:
                    raise SupervisorError(f"The Supervisor refuses the announcement: {await reply.text()}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SupervisorError(f"The Supervisor does not take the announcement: {error!r}") from error


def chosen_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """`Supervisor.network_ports`; empty outside of an add-on, and when the Supervisor fails, which is logged."""
    supervisor = Supervisor.from_environment(environment)
    if supervisor is None:
        return {}
    try:
        return supervisor.network_ports()
    except SupervisorError as error:
        logger.warning("%s. The usual ones are used", error)
        return {}
