"""Certificates: what browsers and OpenSSL ask of them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.availability import require_program
from voice_streaming.network.certificates import Identity, make_authority, make_server_identity

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NAMES = ["kitchenbox", "kitchenbox.local", "localhost", "127.0.0.1", "::1", "192.168.1.20", "fd00::2"]


@pytest.fixture
def authority() -> Identity:
    return make_authority("Voice streaming on kitchenbox", NOW, NAMES)


def test_authority_may_sign_certificates_and_nothing_else(authority: Identity) -> None:
    certificate = authority.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert certificate.issuer == certificate.subject
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    assert isinstance(authority.key.curve, ec.SECP256R1)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=3649)


def test_authorities_of_one_machine_have_different_names() -> None:
    first, second = make_authority("Voice", NOW), make_authority("Voice", NOW)

    assert first.certificate.subject != second.certificate.subject


def test_server_certificate_meets_the_rules_of_browsers(authority: Identity) -> None:
    certificate = make_server_identity(authority, NAMES, NOW).certificate
    extensions = certificate.extensions
    alternatives = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key_of_authority = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value

    assert alternatives.get_values_for_type(x509.DNSName) == NAMES[:3]
    assert [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)] == NAMES[3:]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(days=398)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    signed_by = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert signed_by.key_identifier == key_of_authority.digest
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest != key_of_authority.digest


def test_names_are_those_of_the_certificate(authority: Identity) -> None:
    assert make_server_identity(authority, NAMES, NOW).names() == set(NAMES)
    assert authority.names() == frozenset()


def test_server_certificate_never_outlives_its_authority(authority: Identity) -> None:
    end = authority.certificate.not_valid_after_utc

    server = make_server_identity(authority, NAMES, end - timedelta(days=40))

    assert server.certificate.not_valid_after_utc == end


def test_server_certificate_made_while_the_clock_is_years_behind_is_valid_with_its_authority(
    authority: Identity,
) -> None:
    server = make_server_identity(authority, NAMES, datetime(1970, 1, 1, tzinfo=UTC))

    assert server.certificate.not_valid_before_utc == authority.certificate.not_valid_before_utc
    assert server.certificate.not_valid_after_utc > NOW


def test_signature_tells_authorities_apart(authority: Identity) -> None:
    server = make_server_identity(authority, NAMES, NOW)

    assert server.is_signed_by(authority)
    assert not server.is_signed_by(make_authority("Voice streaming on kitchenbox", NOW))


def test_server_certificate_is_no_authority(authority: Identity) -> None:
    assert authority.is_authority()
    assert not make_server_identity(authority, NAMES, NOW).is_authority()


def test_pem_reads_back(authority: Identity) -> None:
    again = Identity.from_pem(authority.to_pem())

    assert again.certificate == authority.certificate
    assert make_server_identity(again, NAMES, NOW).is_signed_by(authority)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_text_that_was_cut_short_is_refused(authority: Identity, kept: float) -> None:
    pem = authority.to_pem()

    with pytest.raises(ValueError, match=r"^there is no (certificate|private key) in PEM format$"):
        Identity.from_pem(pem[: int(len(pem) * kept)])


def test_text_with_a_changed_byte_is_refused(authority: Identity) -> None:
    pem = bytearray(authority.to_pem())
    pem[len(pem) // 2] = ord("!")

    with pytest.raises(ValueError, match="PEM format"):
        Identity.from_pem(bytes(pem))


def test_key_of_another_certificate_is_refused(authority: Identity) -> None:
    other = make_authority("Voice", NOW)

    with pytest.raises(ValueError, match=r"^the private key is not the certificate's$"):
        Identity.from_pems(authority.certificate_pem(), other.to_pem())


def test_encrypted_key_is_refused(authority: Identity) -> None:
    encrypted = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))

    with pytest.raises(ValueError, match=r"^the private key is encrypted; decrypt it first$"):
        Identity.from_pems(authority.certificate_pem(), encrypted)


def test_rsa_authority_that_somebody_brought_signs_too(authority: Identity) -> None:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name.from_rfc4514_string("CN=Home")
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, NOW, NOW + timedelta(days=900))
    signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    home = Identity(signed, key)

    assert home.is_authority()
    assert make_server_identity(home, NAMES, NOW).is_signed_by(home)


@pytest.mark.parametrize("name", ["-verify_hostname=kitchenbox.local", "-verify_ip=192.168.1.20", "-verify_ip=fd00::2"])
def test_openssl_accepts_the_chain_strictly(tmp_path: Path, name: str) -> None:
    openssl = require_program("openssl")
    authority = make_authority("Voice streaming on kitchenbox", datetime.now(UTC), NAMES)
    server = make_server_identity(authority, NAMES, datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem())
    (tmp_path / "server.pem").write_bytes(server.certificate_pem())

    verified = subprocess.run(
        [
            openssl,
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            "ca.pem",
            *name.split("="),
            "server.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (verified.returncode, verified.stdout) == (0, "server.pem: OK\n"), verified.stderr
