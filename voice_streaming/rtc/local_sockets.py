"""This machine's media sockets: one for each host address."""

from __future__ import annotations

import logging
import time

from ..network.addresses import lan_addresses
from ..settings.model import WebrtcSettings
from .shared_socket import SharedSocket

logger = logging.getLogger(__name__)

ADDRESSES_AGE_S = 5.0
"""How long the list of this machine's addresses is reused: making it takes half a millisecond."""


class LocalSockets:
    """Opens the sockets that all peers share."""

    def __init__(self, settings: WebrtcSettings) -> None:
        self.settings = settings
        self._sockets: dict[str, SharedSocket] = {}
        self._listed: list[str] = []
        self._listed_s = -ADDRESSES_AGE_S

    def open(self) -> list[SharedSocket]:
        """One for each host address that this machine has now. The others are closed as soon as they are unused."""
        hosts = self.hosts()
        for host in hosts:
            if host not in self._sockets:
                try:
                    self._sockets[host] = SharedSocket(host, self.settings.udp_port_range)
                except OSError as error:
                    ports = f" (webrtc.udp_ports {self.settings.udp_ports})" if self.settings.udp_ports else ""
                    logger.warning("No WebRTC on %s%s: %s", host, ports, error)
        for host in [host for host, shared in self._sockets.items() if host not in hosts and not shared.is_used]:
            self._sockets.pop(host).close()
        return [self._sockets[host] for host in hosts if host in self._sockets]

    def hosts(self) -> list[str]:
        """The addresses to gather candidates on."""
        if self.settings.host_addresses:
            return list(self.settings.host_addresses)
        now_s = time.monotonic()
        if now_s - self._listed_s > ADDRESSES_AGE_S:
            self._listed = lan_addresses() or ["127.0.0.1"]
            self._listed_s = now_s
        return self._listed

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        for shared in self._sockets.values():
            shared.close()
        self._sockets.clear()
