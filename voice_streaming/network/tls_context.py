"""What every source of certificates needs."""

from __future__ import annotations

import logging
import ssl

logger = logging.getLogger(__name__)


class TlsUnavailable(Exception):
    """No certificate can be kept or read; the message is one line that says why and what to do."""


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def is_list_of_authorities(path: str) -> bool:
    """Whether the PEM file holds several certificates, and all of them are authorities', as a system's list of those
    to trust; False for a file that cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError:  # Of which ssl.SSLError is one: then the file is no such list.
        return False
    counts = context.cert_store_stats()
    return counts["x509"] > 1 and counts["x509"] == counts["x509_ca"]


class WarnOnce:
    """Says what is wrong once, however often the check that finds it is repeated."""

    def __init__(self) -> None:
        self.said: str | None = None
        """What is wrong now."""

    def warn(self, message: str) -> None:
        if message != self.said:
            self.said = message
            logger.warning("%s", message)

    def all_is_well(self) -> None:
        self.said = None
