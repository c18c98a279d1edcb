"""Opening and closing the TCP ports of the server."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from ..access.paced_protocol import Protocols
from ..access.tcp_ports import TcpPorts
from ..network.tls import Certificates
from ..process.failures import Failures
from ..settings.model import Settings

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server cannot start; the message is one line with the reason and a remedy."""


class AudioServer(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class OpenPorts:
    """HTTP, the audio server's port and HTTPS where there are certificates: opened together, closed together."""

    def __init__(
        self,
        settings: Settings,
        application: web.Application,
        audio_server: AudioServer,
        certificates: Certificates | None,
        tcp_ports: TcpPorts,
        failures: Failures,
    ) -> None:
        self._settings = settings
        self._audio_server = audio_server
        self._certificates = certificates
        self._tcp_ports = tcp_ports
        self._failures = failures
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=settings.server.shutdown_timeout_s,
            keepalive_timeout=settings.limits.request_timeout_s,
        )

    async def open(self) -> None:
        """Raises StartError when a port cannot be opened; those before it stay open until `close`."""
        server = self._settings.server
        await self._runner.setup()
        protocols = self._runner.server
        assert protocols is not None
        await _open("audio.port (--audio-port)", self._settings.audio.port, self._audio_server.start)
        if self._certificates is not None:
            context = self._certificates.context()
            start = partial(self._tcp_ports.open, server.host, server.tls_port, protocols, context)
            await _open("server.tls_port", server.tls_port, start)
        if server.ingress_port:
            await self._open_ingress(server.host, server.ingress_port, protocols)
        # The last one: whoever gets an answer of /health finds everything else open, too.
        await _open(
            "server.port (--port)", server.port, partial(self._tcp_ports.open, server.host, server.port, protocols)
        )

    async def _open_ingress(self, host: str, port: int, protocols: Protocols) -> None:
        """A failure is logged and stays a problem: the pages can still be opened at the server's own address."""
        try:
            await _open("server.ingress_port", port, partial(self._tcp_ports.open, host, port, protocols))
        except StartError as error:
            logger.warning("Home Assistant's side bar cannot show the pages: %s", error)
            self._failures.hold("ingress-port", str(error))

    async def close(self) -> None:
        self._tcp_ports.stop_listening()
        await self._audio_server.stop()
        await self._runner.cleanup()
        await self._tcp_ports.close()


async def _open(setting: str, port: int, start: Callable[[], Awaitable[None]]) -> None:
    """Raises StartError, naming the setting and the port, when `start` finds the port taken or not allowed."""
    try:
        await start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        raise StartError(
            f"port {port} cannot be opened: {reason}. Perhaps another copy of this server, or another program, has it "
            f"(see `lsof -i :{port}`); choose another port with {setting}"
        ) from error
