"""HTTPS for a LAN: the sources of the server's certificate, and its renewal without a restart.

`open_certificates` opens the source that the settings ask for. The server takes its `context()` once and calls
`renew_if_needed()` every CHECK_INTERVAL_S; handshakes after a renewal get the new certificate.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from ..process.failures import Failures
from ..settings.model import ConfigError, ServerSettings, data_folder
from .addresses import addresses_listened_on, host_name, loopback_addresses
from .certificate_files import CertificateFiles
from .local_certificates import LocalCertificates
from .tls_context import TlsUnavailable

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 30.0
"""A check takes about a millisecond; a new address of the machine is in the certificate this soon."""

HTTPS = "https"
"""The problem that there is none, though the settings want it."""

CA_CONTENT_TYPE = "application/x-x509-ca-cert"
"""With this type phones offer to install the certificate."""


class Certificates(Protocol):
    """A source of the server's certificate."""

    def context(self) -> ssl.SSLContext:
        """The context for the server's sockets: always the same object."""

    def authority_pem(self) -> bytes | None:
        """The authority that devices have to trust, for `GET /ca.crt`; None when it is not this server's own."""

    def names(self) -> frozenset[str]:
        """DNS names and addresses that the certificate in use is good for."""

    def fingerprint(self) -> str:
        """The SHA-256 of the certificate in use, in hexadecimal digits."""

    def trouble(self) -> str | None:
        """Why the certificate is not what it should be: expired, say, or not to be renewed; None where all is well."""

    def reload(self) -> None:
        """Takes up what is in the files now. Raises ConfigError, and then the certificate so far stays in use."""

    def renew_if_needed(self) -> bool:
        """Brings the context up to date; True when it changed. Never raises: a failure is logged once, and the
        certificate so far stays in use."""


def open_certificates(
    server: ServerSettings, environment: Mapping[str, str], failures: Failures | None = None
) -> Certificates | None:
    """The certificates that the settings ask for; None for no HTTPS.

    Raises ConfigError for the user's certificate files when they cannot be used. When our own certificate cannot be
    stored, as in a read-only data folder, that is logged, held as a problem in `failures`, and the server runs without
    HTTPS: receivers and players need none. A certificate in memory alone would not help, as every device had to trust
    a new one after each start.
    """
    if server.tls == "off":
        return None
    if server.tls == "files" or server.ssl_cert_file:
        return CertificateFiles(Path(server.ssl_cert_file), Path(server.ssl_key_file))
    try:
        return _local_certificates(server, environment)
    except (TlsUnavailable, ConfigError) as error:
        logger.warning("No HTTPS, so other machines' browsers give no microphone: %s", error)
        if failures is not None:
            failures.hold(HTTPS, str(error))
        return None


def renew_authority(server: ServerSettings, environment: Mapping[str, str]) -> Path:
    """Makes a new authority of this machine's own, keeps the old one beside it, and returns the folder of both.

    A server that runs takes it up at its next start. Raises ConfigError where the settings want none, TlsUnavailable.
    """
    if server.tls != "auto" or server.ssl_cert_file:
        raise ConfigError("server.tls and server.ssl_cert_file: with these settings there is no authority of our own")
    certificates = _local_certificates(server, environment)
    try:
        certificates.replace_authority()
    except OSError as error:
        raise TlsUnavailable(f"the authority cannot be written: {error.strerror or error}") from error
    return certificates.folder


def _local_certificates(server: ServerSettings, environment: Mapping[str, str]) -> LocalCertificates:
    folder = data_folder(server, environment) / "tls"
    return LocalCertificates(folder, lambda: local_names(server.host, server.tls_names))


def local_names(host: str, further: tuple[str, ...] = ()) -> list[str]:
    """By what a server that listens on `host` is found on its LAN: DNS names in lower case, then addresses."""
    own = host_name()
    names = [own, own.partition(".")[0], f"{own.partition('.')[0]}.local"] if own else []
    names += ["localhost", "homeassistant.local", *loopback_addresses(host), *addresses_listened_on(host), *further]
    return list(dict.fromkeys(_canonical(name) for name in names))


def _canonical(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower()


async def renew_certificates(certificates: Certificates | None) -> None:
    """Renews the certificates when needed, until cancelled; returns at once when there are none."""
    while certificates is not None:
        await asyncio.sleep(CHECK_INTERVAL_S)
        certificates.renew_if_needed()
