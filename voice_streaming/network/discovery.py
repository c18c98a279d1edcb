"""Announces the server: on the LAN by DNS-SD over multicast DNS (RFC 6763), and to Home Assistant's Supervisor.

Announcing never stops the server: without multicast, or without an answer of the Supervisor, a warning is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from .. import __version__
from ..process.failures import Failures
from ..settings.model import Settings
from .addresses import addresses_listened_on, host_name
from .supervisor import Supervisor, SupervisorError

logger = logging.getLogger(__name__)

SERVICE_TYPE = "_voice-streaming._tcp.local."
ON_LAN = "announce-on-lan"
"""The task's name, and the problem that it cannot do its work."""
CHECK_INTERVAL_S = 30.0
"""How soon an address that the machine got later is announced."""
MAX_NAME_CHARACTERS = 40
"""A label of a DNS name has at most 63 (RFC 1035 section 2.3.4); a prefix and a suffix are added to the name."""
WITHDRAWAL_TIMEOUT_S = 1.0
"""A goodbye takes three packets in a quarter of a second (RFC 6762 section 10.1)."""
SUPERVISOR_RETRIES_S = (5.0, 30.0, 120.0)
"""It may be restarting, as for its own update."""


def facts(settings: Settings, with_tls: bool, server_id: str | None = None) -> dict[str, object]:
    """What is announced beside address and port."""
    found: dict[str, object] = {"version": __version__, "audio_port": settings.audio.port}
    if with_tls:
        found["tls_port"] = settings.server.tls_port
    if server_id is not None:
        found["id"] = server_id
    return found


def announced_addresses(settings: Settings) -> list[str]:
    """The addresses to announce now; empty for a server that listens on loopback."""
    if settings.discovery.addresses:
        return list(settings.discovery.addresses)
    return addresses_listened_on(settings.server.host)


def announcements(
    settings: Settings,
    with_tls: bool,
    environment: Mapping[str, str],
    server_id: str | None = None,
    failures: Failures | None = None,
) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
    """The background tasks that announce the server, by name; they run until cancelled."""
    work: dict[str, Callable[[], Coroutine[None, None, None]]] = {}
    if settings.discovery.lan:
        work[ON_LAN] = partial(announce_on_lan, settings, with_tls, server_id, failures)
    supervisor = Supervisor.from_environment(environment)
    if settings.discovery.home_assistant and supervisor is not None:
        work["announce-to-supervisor"] = partial(announce_to_supervisor, settings, with_tls, supervisor, server_id)
    return work


async def announce_on_lan(
    settings: Settings, with_tls: bool, server_id: str | None = None, failures: Failures | None = None
) -> None:
    """Announces the server until cancelled, again when its addresses change; then withdraws it.

    While that is not possible, it is held in `failures` as a problem.
    """
    failures = Failures() if failures is None else failures
    current: Announcement | None = None
    logged = ""
    try:
        while True:
            addresses = announced_addresses(settings)
            if current is None or current.addresses != addresses:
                if current is not None:
                    await current.withdraw()
                current = Announcement(settings, with_tls, addresses, server_id)
                try:
                    await current.publish()
                    logged = ""
                    failures.release(ON_LAN)
                except (OSError, RuntimeError, ZeroconfError) as error:
                    current = None
                    if repr(error) != logged:
                        logger.warning("Not announced on the LAN (discovery.lan): %r", error)
                    logged = repr(error)
                    failures.hold(ON_LAN, logged)
            await asyncio.sleep(CHECK_INTERVAL_S)
    finally:
        if current is not None:
            await current.withdraw()


async def announce_to_supervisor(
    settings: Settings, with_tls: bool, supervisor: Supervisor, server_id: str | None = None
) -> None:
    """Announces the server once; after the last of several attempts, logs a warning."""
    host = next(iter(announced_addresses(settings)), "127.0.0.1")
    config = {"host": host, "port": settings.server.port, **facts(settings, with_tls, server_id)}
    for wait_s in (*SUPERVISOR_RETRIES_S, None):
        try:
            await supervisor.announce(config)
        except SupervisorError as error:
            if wait_s is None:
                logger.warning("%s (discovery.home_assistant)", error)
                return
            await asyncio.sleep(wait_s)
        else:
            return


class Announcement:
    """The server's records on the networks of some addresses of this machine."""

    def __init__(
        self, settings: Settings, with_tls: bool, addresses: Sequence[str], server_id: str | None = None
    ) -> None:
        self.addresses = list(addresses)
        name = (host_name() or "this-network").partition(".")[0][:MAX_NAME_CHARACTERS]
        self._info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"Voice on {name}.{SERVICE_TYPE}",
            port=settings.server.port,
            properties={key: str(value) for key, value in facts(settings, with_tls, server_id).items()},
            # Not the machine's own name, whose records are those of the machine's own mDNS responder, nor one that a
            # second server on it, or another machine of the same name, announces with other addresses.
            server=f"voice-streaming-{server_id or name}.local.",
            parsed_addresses=self.addresses,
        )
        self._zeroconf: AsyncZeroconf | None = None

    async def publish(self) -> None:
        """Returns when the name is registered, after about a second.

        Raises OSError, RuntimeError (an address has gone meanwhile) or zeroconf's Error; then nothing is announced.
        """
        if not self.addresses:
            return
        self._zeroconf = AsyncZeroconf(interfaces=list(self.addresses))
        try:
            await (await self._zeroconf.async_register_service(self._info, allow_name_change=True))
        except BaseException:
            await self.withdraw()
            raise
        logger.debug("Announced on the LAN as %s", self._info.name)

    async def withdraw(self) -> None:
        """Sends the goodbye packets; never raises."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(WITHDRAWAL_TIMEOUT_S):
                await zeroconf.async_close()
        except (OSError, ZeroconfError, TimeoutError) as error:
            logger.debug("Not withdrawn from the LAN: %r", error)
