"""A certificate that the user keeps, in files that may change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ..settings.model import ConfigError
from .certificates import Identity
from .tls_context import WarnOnce, server_context

logger = logging.getLogger(__name__)

_NEVER = datetime.min.replace(tzinfo=UTC)


class CertificateFiles:
    """A certificate and key that the user keeps, as from a company's authority or an ACME client.

    Files that change on disk are loaded again; while they cannot be used, the certificate so far stays. Raises
    ConfigError when they cannot be used at the start.
    """

    def __init__(
        self, certificate_path: Path, key_path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._paths = (certificate_path, key_path)
        self._now = now
        self._trouble = WarnOnce()
        self._context = server_context()
        self._expires = _NEVER
        self._names: frozenset[str] = frozenset()
        self._fingerprint = ""
        self._seen = self._signature()
        self._load()
        self._warn_of_expiry()

    def context(self) -> ssl.SSLContext:
        return self._context

    def authority_pem(self) -> bytes | None:
        return None

    def names(self) -> frozenset[str]:
        return self._names

    def fingerprint(self) -> str:
        return self._fingerprint

    def trouble(self) -> str | None:
        return self._trouble.said

    def reload(self) -> None:
        signature = self._signature()
        self._load()
        self._seen = signature
        self._trouble.all_is_well()
        self._warn_of_expiry()

    def renew_if_needed(self) -> bool:
        # Taken before the files are read: what changes meanwhile is then seen the next time.
        signature = self._signature()
        changed = signature != self._seen
        if changed:
            self._seen = signature
            try:
                self._load()
            except ConfigError as error:
                self._trouble.warn(f"The new certificate files are not used: {error}")
                return False
            self._trouble.all_is_well()
            logger.info("The certificate files changed, and are in use now")
        self._warn_of_expiry()
        return changed

    def _load(self) -> None:
        certificate_path, key_path = self._paths
        try:
            identity = Identity.from_pems(
                _read_setting("ssl_cert_file", certificate_path), _read_setting("ssl_key_file", key_path)
            )
            # A trial first: a pair that fails half-way would leave the context in use without a key.
            server_context().load_cert_chain(certificate_path, key_path)
            self._context.load_cert_chain(certificate_path, key_path)
        except (ValueError, ssl.SSLError) as error:
            raise ConfigError(
                f"server.ssl_cert_file {certificate_path} with server.ssl_key_file {key_path}: {error}"
            ) from error
        self._expires = identity.certificate.not_valid_after_utc
        self._names = identity.names()
        self._fingerprint = identity.fingerprint()

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_file_signature(path) for path in self._paths)

    def _warn_of_expiry(self) -> None:
        now = self._now()
        if now > self._expires:
            self._trouble.warn(f"{self._paths[0]} expired on {self._expires:%Y-%m-%d}: browsers refuse it; replace it")


def _file_signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_setting(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"server.{key} is {path}: cannot be read: {error.strerror or error}") from error
