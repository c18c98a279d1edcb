"""An authority of this machine's own, and the server certificate that it signs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .addresses import host_name
from .certificates import RENEWAL_DAYS, Identity, make_authority, make_server_identity
from .private_files import close_to_others, name_unless_taken, private_file_beside, read_private
from .tls_context import TlsUnavailable, WarnOnce, server_context

logger = logging.getLogger(__name__)

RENEWAL = (
    "`python webrtc_server_relay.py renew-authority` makes an authority that is for this machine's names alone; every "
    "device has to be told to trust it then"
)
"""What to do about an authority that is kept for the sake of the devices that trust it."""


class LocalCertificates:
    """An authority of this machine's own, made once, and the server certificate that it signs.

    Both live in `folder` (made when absent, for its owner alone): `authority.pem` and `server.pem`, each with its key
    in the same file. `names` gives what the certificate has to be good for now; the certificate is replaced, under the
    same authority, when one of them is missing in it or it is about to expire. Names that went away do no harm and
    replace nothing. A name that the authority may not vouch for is left out, as one such name would void the whole
    certificate, and the log says so. The authority is replaced only on command (`replace_authority`), when its file is
    damaged or when it is about to expire, with a warning, and the old file is kept beside it. Raises TlsUnavailable.
    """

    def __init__(
        self, folder: Path, names: Callable[[], list[str]], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder = folder
        self._authority_path = folder / "authority.pem"
        self._names = names
        self._now = now
        self._trouble = WarnOnce()
        self._left_out: set[str] = set()
        self._context = server_context()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            close_to_others(folder, 0o700)
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

    def names(self) -> frozenset[str]:
        return self._server.names() if self._server is not None else frozenset()

    def fingerprint(self) -> str:
        return self._server.fingerprint() if self._server is not None else ""

    def replace_authority(self) -> None:
        """Makes a new authority for the names of now, and a certificate under it. Raises OSError.

        Every device has to be told to trust it.
        """
        self._authority = self._replace_authority("is replaced as you asked", "replaced")
        self._renew(self._names())

    def trouble(self) -> str | None:
        return self._trouble.said

    def reload(self) -> None:
        self.renew_if_needed()

    def renew_if_needed(self) -> bool:
        try:
            if self._authority.expires_within(RENEWAL_DAYS, self._now()):
                self._authority = self._replace_authority(f"expires within {RENEWAL_DAYS} days", "expired")
            names = self._vouched(self._names())
            reason = self._reason_to_renew(names)
            if reason is not None:
                self._renew(names)
                logger.info("New server certificate, because %s; it is good for %s", reason, ", ".join(names))
        except OSError as error:
            self._trouble.warn(
                f"The server certificate cannot be renewed: {self.folder}: {error.strerror or error}; "
                "make the folder writable for this user"
            )
            return False
        self._trouble.all_is_well()
        return reason is not None

    def _vouched(self, names: list[str]) -> list[str]:
        """Those of the names that the authority may vouch for; each of the others is logged once."""
        left_out = [name for name in names if not self._authority.may_vouch_for(name)]
        if new := [name for name in left_out if name not in self._left_out]:
            self._left_out.update(new)
            logger.warning(
                "The certificate is not good for %s, for which its authority was not made. %s", ", ".join(new), RENEWAL
            )
        # Of none at all there can be no certificate, and a void one can at least be looked at.
        return [name for name in names if name not in left_out] or names

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
            # A machine without a battery for its clock, just after its start: what is wrong is the clock.
            return None
        if self._server.expires_within(RENEWAL_DAYS, now):
            return "the present one expires soon"
        if now < self._server.certificate.not_valid_before_utc:
            return "the present one was made while the clock was ahead"
        return None

    def _renew(self, names: list[str]) -> None:
        server = make_server_identity(self._authority, names, self._now())
        path = self.folder / "server.pem"
        with private_file_beside(path, server.to_pem()) as new:
            # Before it gets its name, as another process that shares the folder may be renewing too.
            self._context.load_cert_chain(new)
            self._server = server
            new.replace(path)

    def _open_server(self) -> Identity | None:
        path = self.folder / "server.pem"
        try:
            server = Identity.from_pem(read_private(path))
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
            authority = Identity.from_pem(read_private(path))
        except FileNotFoundError:
            return self._make_authority()
        except ValueError as error:
            return self._replace_authority(f"is damaged ({error})", "damaged")
        if not authority.is_authority():
            raise TlsUnavailable(f"{path} is no certificate authority; remove the file, and a new one is made")
        if not authority.is_constrained:
            logger.warning("%s may vouch for any site to the devices that trust it. %s", path, RENEWAL)
        return authority

    def _make_authority(self) -> Identity:
        authority = self._new_authority()
        with private_file_beside(self._authority_path, authority.to_pem()) as new:
            if not name_unless_taken(new, self._authority_path):
                # The other's authority is as good.
                return Identity.from_pem(read_private(self._authority_path))
        logger.info("Made a certificate authority for this machine: %s", self._authority_path)
        return authority

    def _replace_authority(self, what: str, mark: str) -> Identity:
        path = self._authority_path
        aside = path.with_name(f"{path.name}.{mark}")
        authority = self._new_authority()
        with private_file_beside(path, authority.to_pem()) as new:
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
        return make_authority(f"Voice streaming on {host_name() or 'this network'}", self._now(), self._names())
