"""What an authority may vouch for (RFC 5280 section 4.2.1.10), and what becomes of other names."""

from __future__ import annotations

import logging
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.availability import require_program
from tests.support.tls_client import served_certificate
from voice_streaming.network.certificates import Identity, make_authority, make_server_identity
from voice_streaming.network.local_certificates import LocalCertificates

NOW = datetime.now(UTC)
OWN = ["kitchenbox", "box.fritz.box", "127.0.0.1", "203.0.113.9"]
PRIVATE = ["a.local", "localhost", "a.home.arpa", "a.lan", "a.internal", "10.1.2.3", "172.31.0.1", "192.168.1.20"]
PRIVATE += ["169.254.1.1", "::1", "fd12::1", "fe80::1"]
OUTSIDE = ["evil.example", "fritz.box", "evillan", "8.8.8.8", "172.32.0.1", "2001:470::1", "203.0.113.10"]


@pytest.fixture
def authority() -> Identity:
    return make_authority("Voice streaming on kitchenbox", NOW, OWN)


@pytest.fixture
def names() -> list[str]:
    return ["kitchenbox.local", "localhost", "127.0.0.1"]


@pytest.fixture
def certificates(tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture) -> LocalCertificates:
    caplog.set_level(logging.INFO, "voice_streaming.network")
    return LocalCertificates(tmp_path / "tls", lambda: names)


def openssl_accepts(folder: Path, authority: Identity, name: str) -> bool:
    """Whether OpenSSL takes a certificate for this name that the authority signed."""
    openssl = str(require_program("openssl"))
    server = make_server_identity(authority, [name], NOW)
    (folder / "ca.pem").write_bytes(authority.certificate_pem())
    (folder / "server.pem").write_bytes(server.certificate_pem())
    command = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "server.pem"]
    verified = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    assert verified.returncode == 0 or "permitted subtree violation" in verified.stderr, verified.stderr
    return verified.returncode == 0


def unconstrained_authority() -> Identity:
    """As this server made them before."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string("CN=Voice streaming on kitchenbox")
    begins, ends = NOW.replace(year=NOW.year - 1), NOW.replace(year=NOW.year + 9, day=1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Identity(builder.sign(key, hashes.SHA256()), key)


def test_the_constraints_are_critical(authority: Identity) -> None:
    assert authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).critical
    assert authority.is_constrained


@pytest.mark.parametrize("name", [*PRIVATE, *OWN, "a.box.fritz.box"])
def test_private_names_and_those_it_was_made_for_are_vouched_for(
    tmp_path: Path, authority: Identity, name: str
) -> None:
    assert authority.may_vouch_for(name)
    assert openssl_accepts(tmp_path, authority, name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_else_is(tmp_path: Path, authority: Identity, name: str) -> None:
    assert not authority.may_vouch_for(name)
    assert not openssl_accepts(tmp_path, authority, name)


def test_excluded_names_of_an_authority_that_somebody_brought_are_seen() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string("CN=Home")
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, NOW, NOW.replace(year=NOW.year + 1, day=1))
    constraints = x509.NameConstraints(None, [x509.DNSName("secret.lan")])
    home = Identity(builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256()), key)
    assert home.may_vouch_for("box.lan")
    assert home.may_vouch_for("8.8.8.8")
    assert not home.may_vouch_for("box.secret.lan")


@pytest.mark.parametrize("outside", ["2001:470::5", "box", "box.fritz.box"])
async def test_a_name_that_comes_later_never_breaks_https(
    certificates: LocalCertificates, names: list[str], outside: str, caplog: pytest.LogCaptureFixture
) -> None:
    authority_pem = certificates.authority_pem()
    names += [outside, "10.0.0.7"]
    assert certificates.renew_if_needed()
    assert not certificates.renew_if_needed()

    assert certificates.authority_pem() == authority_pem
    assert certificates.names() == {"kitchenbox.local", "localhost", "127.0.0.1", "10.0.0.7"}
    for name in ("localhost", "10.0.0.7"):
        await served_certificate(certificates, trusting=authority_pem, name=name)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (line,) = warned
    assert line.startswith(f"The certificate is not good for {outside}, ")
    assert "webrtc_server_relay.py renew-authority" in line


async def test_the_command_makes_an_authority_for_the_names_of_now(
    tmp_path: Path, certificates: LocalCertificates, names: list[str]
) -> None:
    old = certificates.authority_pem()
    names.append("box.fritz.box")
    certificates.replace_authority()

    anew = LocalCertificates(tmp_path / "tls", lambda: names)
    assert anew.authority_pem() == certificates.authority_pem() != old
    assert old in (tmp_path / "tls" / "authority.pem.replaced").read_bytes()
    assert not anew.renew_if_needed()
    await served_certificate(anew, trusting=anew.authority_pem(), name="box.fritz.box")


async def test_an_old_authority_without_constraints_is_kept_and_the_log_says_how_to_renew(
    tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    old = unconstrained_authority()
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o700)
    (folder / "authority.pem").write_bytes(old.to_pem())
    (folder / "authority.pem").chmod(0o600)
    names.append("box.fritz.box")

    kept = LocalCertificates(folder, lambda: names)

    assert kept.authority_pem() == old.certificate_pem()
    assert "box.fritz.box" in kept.names()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "may vouch for any site" in line
    assert "webrtc_server_relay.py renew-authority" in line
