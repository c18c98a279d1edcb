"""Telling others that this server is here: the LAN by multicast DNS (RFC 6763), and Home Assistant's Supervisor.

All of it happens beside the server: a network without multicast, or a Supervisor that is silent, costs a warning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from .. import __version__
from ..settings.model import Settings
from .addresses import addresses_listened_on, host_name
from .supervisor import Supervisor, SupervisorError

logger = logging.getLogger(__name__)

SERVICE_TYPE = "_voice-streaming._tcp.local."
CHECK_INTERVAL_S = 30.0
"""How soon an address that the machine got later is announced."""
MAX_NAME_CHARACTERS = 40
"""A label of a DNS name has at most 63 (RFC 1035 section 2.3.4), with what stands around it."""
WITHDRAWAL_TIMEOUT_S = 1.0
"""Saying goodbye takes three packets in a quarter of a second (RFC 6762 section 10.1)."""
SUPERVISOR_RETRIES_S = (5.0, 30.0, 120.0)
"""It may be restarting, as for its own update."""


def facts(settings: Settings, with_tls: bool) -> dict[str, object]:
    """What whoever finds this server wants to know beside its address and port."""
    found: dict[str, object] = {"version": __version__, "audio_port": settings.audio.port}
    if with_tls:
        found["tls_port"] = settings.server.tls_port
    return found


def announced_addresses(settings: Settings) -> list[str]:
    """Where others on the LAN find this server now; empty where it is for this machine alone."""
    if settings.discovery.addresses:
        return list(settings.discovery.addresses)
    return addresses_listened_on(settings.server.host)


def announcements(
    settings: Settings, with_tls: bool, environment: Mapping[str, str]
) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
    """What to run beside the server, by name, until it stops."""
    work: dict[str, Callable[[], Coroutine[None, None, None]]] = {}
    if settings.discovery.lan:
        work["announce-on-lan"] = partial(announce_on_lan, settings, with_tls)
    supervisor = Supervisor.from_environment(environment)
    if settings.discovery.home_assistant and supervisor is not None:
        work["announce-to-supervisor"] = partial(announce_to_supervisor, settings, with_tls, supervisor)
    return work


async def announce_on_lan(settings: Settings, with_tls: bool) -> None:
    """Announces the server until cancelled, following its addresses; then withdraws it."""
    current: Announcement | None = None
    trouble = ""
    try:
        while True:
            addresses = announced_addresses(settings)
            if current is None or current.addresses != addresses:
                if current is not None:
                    await current.withdraw()
                current = Announcement(settings, with_tls, addresses)
                try:
                    await current.publish()
                    trouble = ""
                except (OSError, RuntimeError, ZeroconfError) as error:
                    current = None
                    if repr(error) != trouble:
                        logger.warning("Not announced on the LAN (discovery.lan): %r", error)
                    trouble = repr(error)
            await asyncio.sleep(CHECK_INTERVAL_S)
    finally:
        if current is not None:
            await current.withdraw()


async def announce_to_supervisor(settings: Settings, with_tls: bool, supervisor: Supervisor) -> None:
    """Announces the server once; gives up after some attempts, and says so."""
    host = next(iter(announced_addresses(settings)), "127.0.0.1")
    config = {"host": host, "port": settings.server.port, **facts(settings, with_tls)}
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

    def __init__(self, settings: Settings, with_tls: bool, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        name = (host_name() or "this-network").partition(".")[0][:MAX_NAME_CHARACTERS]
        self._info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"Voice on {name}.{SERVICE_TYPE}",
            port=settings.server.port,
            properties={key: str(value) for key, value in facts(settings, with_tls).items()},
            # The machine's own name belongs to its own responder: records under it would contradict that one's.
            server=f"voice-streaming-{name}.local.",
            parsed_addresses=self.addresses,
        )
        self._zeroconf: AsyncZeroconf | None = None

    async def publish(self) -> None:
        """Returns when the name is ours, after about a second; nothing is left behind when that fails.

        Raises OSError, RuntimeError (an address that is gone again) and zeroconf's Error.
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
        """Says goodbye; never raises."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(WITHDRAWAL_TIMEOUT_S):
                await zeroconf.async_close()
        except (OSError, ZeroconfError, TimeoutError) as error:
            logger.debug("Not withdrawn from the LAN: %r", error)
