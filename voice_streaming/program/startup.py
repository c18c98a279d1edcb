"""The addresses of the server, logged at the start."""

from __future__ import annotations

import logging

from ..network.addresses import addresses_listened_on, local_address
from ..settings.model import Settings

logger = logging.getLogger(__name__)


def log_addresses(settings: Settings, *, with_tls: bool) -> None:
    """Logs the addresses for talking, listening, VLC and the certificate, at an address that others can reach."""
    server, audio = settings.server, settings.audio
    here = _in_url(local_address(server.host))
    host = _in_url((addresses_listened_on(server.host) or [local_address(server.host)])[0])
    talk = f"https://{host}:{server.tls_port}" if with_tls else f"http://{host}:{server.port}"
    logger.info("Talk:        %s/sender  (on this machine: http://%s:%d/sender)", talk, here, server.port)
    logger.info("Listen:      http://%s:%d/receiver", host, server.port)
    logger.info("VLC:         http://%s:%d/stream/latest.mp3", host, audio.port)
    if settings.recording.mode != "off":
        logger.info("Recordings:  http://%s:%d/recordings", host, server.port)
    if settings.recording.open and not (settings.access.tokens or settings.access.token_secret):
        logger.warning("Recordings are open: everybody who reaches this server may play and delete them")
    if with_tls:
        logger.info("Certificate: http://%s:%d/certificate", host, server.port)


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
