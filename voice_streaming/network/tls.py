"""HTTPS for a LAN: the sources of the server's certificate, and its renewal without a restart.

`open_certificates` opens the source that the settings ask for. The server takes its `context()` once and calls
`renew_if_needed()` every CHECK_INTERVAL_S; handshakes after a renewal get the new certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from ..settings.model import ConfigError, ServerSettings, data_folder
from .addresses import host_name, lan_addresses
from .certificates import RENEWAL_DAYS, Identity, make_authority, make_server_identity

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 30.0
"""A check takes about a millisecond; a new address of the machine is in the certificate this soon."""

CA_CONTENT_TYPE = "application/x-x509-ca-cert"
"""With this type phones offer to install the certificate."""

_NEVER = datetime.min.replace(tzinfo=UTC)


class TlsUnavailable(Exception):
    """The certificate cannot be stored or read; the message is one line with the reason and a remedy."""


class Certificates(Protocol):
    """A source of the server's certificate."""

    def context(self) -> ssl.SSLContext:
        """The context for the server's sockets: always the same object."""

    def authority_pem(self) -> bytes | None:
        """The authority that devices have to trust, for `GET /ca.crt`; None when it is not this server's own."""

    def renew_if_needed(self) -> bool:
        """Brings the context up to date; True when it changed. Never raises: a failure is logged once, and the
        certificate so far stays in use."""


def open_certificates(server: ServerSettings, environment: Mapping[str, str]) -> Certificates | None:
    """The certificates that the settings ask for; None for no HTTPS.

    Raises ConfigError for the user's certificate files when they cannot be used. When our own certificate cannot be
    stored, as in a read-only data folder, that is logged and the server runs without HTTPS: receivers and players need
    none. A certificate in memory alone would not help, as every device had to trust a new one after each start.
    """
    if server.tls == "off":
        return None
    if server.tls == "files" or server.ssl_cert_file:
        return CertificateFiles(Path(server.ssl_cert_file), Path(server.ssl_key_file))
    try:
        return LocalCertificates(data_folder(server, environment) / "tls", lambda: local_names(server.tls_names))
    except (TlsUnavailable, ConfigError) as error:
        logger.warning("No HTTPS, so other machines' browsers give no microphone: %s", error)
        return None


def local_names(further: tuple[str, ...] = ()) -> list[str]:
    """The names and addresses at which this machine is reached on its LAN: lower case, without duplicates."""
    own = host_name()
    names = [own, own.partition(".")[0], f"{own.partition('.')[0]}.local"] if own else []
    names += ["localhost", "homeassistant.local", "127.0.0.1", "::1", *lan_addresses(), *further]
    return list(dict.fromkeys(_canonical(name) for name in names))


def _canonical(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower()


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _WarnOnce:
    """Logs a warning once, however often the check that finds the problem is repeated."""

    def __init__(self) -> None:
        self._logged: str | None = None

    def warn(self, message: str) -> None:
        if message != self._logged:
            self._logged = message
            logger.warning("%s", message)

    def clear(self) -> None:
        """Logs the next warning whatever it is, as the problem is solved."""
        self._logged = None


class LocalCertificates:
    """An authority of this machine's own, made once, and the server certificate that it signs.

    Both live in `folder` (made when absent, for its owner alone): `authority.pem` and `server.pem`, each with its key
    in the same file. `names` returns the names that the certificate must have now; the certificate is replaced, under
    the same authority, when one of them is missing in it or it is about to expire, but not when a name is gone. The
    authority is replaced only when its file is damaged or it is about to expire, with a warning, and the old file is
    kept beside it. Raises TlsUnavailable.
    """

    def __init__(
        self, folder: Path, names: Callable[[], list[str]], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._folder = folder
        self._authority_path = folder / "authority.pem"
        self._names = names
        self._now = now
        self._problem = _WarnOnce()
        self._context = _server_context()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _close_to_others(folder, 0o700)
            self._authority = self._open_authority()
        except OSError as error:
            raise TlsUnavailable(
                f"{folder}: {error.strerror or error}; set server.data_dir to another folder"
            ) from error
        self._server = self._open_server()
        self.renew_if_needed()
        if self._server is None:
            raise TlsUnavailable(f"{folder} cannot be written to; set server.data_dir to another folder")

    def context(self) -> ssl.SSLContext:
        return self._context

    def authority_pem(self) -> bytes:
        return self._authority.certificate_pem()

    def renew_if_needed(self) -> bool:
        try:
            if self._authority.expires_within(RENEWAL_DAYS, self._now()):
                self._authority = self._replace_authority(f"expires within {RENEWAL_DAYS} days", "expired")
            names = self._names()
            reason = self._reason_to_renew(names)
            if reason is not None:
                self._renew(names)
                logger.info("New server certificate, because %s; it is good for %s", reason, ", ".join(names))
        except OSError as error:
            self._problem.warn(
                f"The server certificate cannot be renewed: {self._folder}: {error.strerror or error}; "
                "make the folder writable for this user"
            )
            return False
        self._problem.clear()
        return reason is not None

    def _reason_to_renew(self, names: list[str]) -> str | None:
        if self._server is None:
            return "there is none yet"
        if not self._server.is_signed_by(self._authority):
            return "another authority signed the present one"
        covered = self._server.names()
        if missing := [name for name in names if name not in covered]:
            return f"the present one is not good for {', '.join(missing)}"
        now = self._now()
        if now < self._authority.certificate.not_valid_before_utc:
            # The clock is wrong, as on a machine without a battery for its clock just after its start.
            return None
        if self._server.expires_within(RENEWAL_DAYS, now):
            return "the present one expires soon"
        if now < self._server.certificate.not_valid_before_utc:
            return "the present one was made while the clock was ahead"
        return None

    def _renew(self, names: list[str]) -> None:
        server = make_server_identity(self._authority, names, self._now())
        path = self._folder / "server.pem"
        with _private_file_beside(path, server.to_pem()) as new:
            # Loaded before the file gets its name, as another process that shares the folder may be renewing too.
            self._context.load_cert_chain(new)
            self._server = server
            new.replace(path)

    def _open_server(self) -> Identity | None:
        path = self._folder / "server.pem"
        try:
            server = Identity.from_pem(_read_private(path))
            self._context.load_cert_chain(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            # ssl.SSLError is an OSError.
            logger.warning("%s is damaged (%s): a new one is made under the same authority", path, error)
            return None
        return server

    def _open_authority(self) -> Identity:
        path = self._authority_path
        try:
            authority = Identity.from_pem(_read_private(path))
        except FileNotFoundError:
            return self._make_authority()
        except ValueError as error:
            return self._replace_authority(f"is damaged ({error})", "damaged")
        if not authority.is_authority():
            raise TlsUnavailable(f"{path} is no certificate authority; remove the file, and a new one is made")
        return authority

    def _make_authority(self) -> Identity:
        authority = self._new_authority()
        with _private_file_beside(self._authority_path, authority.to_pem()) as new:
            try:
                self._authority_path.hardlink_to(new)
            except FileExistsError:
                # Another process that shares the folder was faster: its authority is used.
                return Identity.from_pem(_read_private(self._authority_path))
            except OSError:
                new.replace(self._authority_path)  # A file system without hard links.
        logger.info("Made a certificate authority for this machine: %s", self._authority_path)
        return authority

    def _replace_authority(self, what: str, mark: str) -> Identity:
        path = self._authority_path
        aside = path.with_name(f"{path.name}.{mark}")
        authority = self._new_authority()
        with _private_file_beside(path, authority.to_pem()) as new:
            path.replace(aside)
            new.replace(path)
        logger.warning(
            "%s %s: it is kept as %s, and there is a new authority. Every device has to be told to trust the new one: "
            "open /ca.crt there",
            path,
            what,
            aside.name,
        )
        return authority

    def _new_authority(self) -> Identity:
        return make_authority(f"Voice streaming on {host_name() or 'this network'}", self._now())


class CertificateFiles:
    """A certificate and key of the user's own, as from a company's authority or an ACME client.

    Files that change on disk are loaded again; while they cannot be used, the certificate so far stays. Raises
    ConfigError when they cannot be used at the start.
    """

    def __init__(
        self, certificate_path: Path, key_path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._paths = (certificate_path, key_path)
        self._now = now
        self._problem = _WarnOnce()
        self._context = _server_context()
        self._expires = _NEVER
        self._seen = self._signature()
        self._load()
        self._warn_of_expiry()

    def context(self) -> ssl.SSLContext:
        return self._context

    def authority_pem(self) -> bytes | None:
        return None

    def renew_if_needed(self) -> bool:
        # Taken before the files are read, so that a change meanwhile is noticed at the next check.
        signature = self._signature()
        changed = signature != self._seen
        if changed:
            self._seen = signature
            try:
                self._load()
            except ConfigError as error:
                self._problem.warn(f"The new certificate files are not used: {error}")
                return False
            self._problem.clear()
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
            _server_context().load_cert_chain(certificate_path, key_path)
            self._context.load_cert_chain(certificate_path, key_path)
        except (ValueError, ssl.SSLError) as error:
            raise ConfigError(
                f"server.ssl_cert_file {certificate_path} with server.ssl_key_file {key_path}: {error}"
            ) from error
        self._expires = identity.certificate.not_valid_after_utc

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_file_signature(path) for path in self._paths)

    def _warn_of_expiry(self) -> None:
        now = self._now()
        if now > self._expires:
            self._problem.warn(f"{self._paths[0]} expired on {self._expires:%Y-%m-%d}: browsers refuse it; replace it")


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


def _read_private(path: Path) -> bytes:
    """The content of a file with a key, after making it unreadable for other users."""
    _close_to_others(path, 0o600)
    return path.read_bytes()


def _close_to_others(path: Path, mode: int) -> None:
    # Windows has no such bits: there a folder of the user is not readable for others anyway.
    if os.name != "posix" or not path.stat().st_mode & 0o077:
        return
    try:
        path.chmod(mode)
    except OSError as error:
        logger.warning("%s is open to other users of this machine, and cannot be closed: %s", path, error.strerror)
    else:
        logger.warning("%s was open to other users of this machine: it is closed to them now", path)


@contextlib.contextmanager
def _private_file_beside(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file beside `path`, readable for its owner only, which the caller renames to `path`."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield new
    finally:
        with contextlib.suppress(FileNotFoundError):  # Renamed, as it should be.
            new.unlink()


async def renew_certificates(certificates: Certificates | None) -> None:
    """Renews the certificates when needed, until cancelled; returns at once when there are none."""
    while certificates is not None:
        await asyncio.sleep(CHECK_INTERVAL_S)
        certificates.renew_if_needed()
