"""Certificate files that the user keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.tls_client import served_certificate, warnings
from voice_streaming.network.certificate_files import CertificateFiles
from voice_streaming.network.certificates import Identity, make_authority, make_server_identity
from voice_streaming.network.tls import open_certificates
from voice_streaming.settings.model import ConfigError, ServerSettings

NOW = datetime.now(UTC)


@pytest.fixture
def company() -> Identity:
    return make_authority("Company", NOW)


@pytest.fixture
def pair(tmp_path: Path, company: Identity) -> tuple[Path, Path]:
    """The paths of a certificate and its key, as an ACME client or a company gives them."""
    paths = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    write_pair(paths, make_server_identity(company, ["localhost"], NOW))
    return paths


def write_pair(paths: tuple[Path, Path], identity: Identity) -> None:
    paths[0].write_bytes(identity.certificate_pem())
    paths[1].write_bytes(identity.to_pem().partition(b"-----BEGIN CERTIFICATE")[0])


async def test_given_files_are_served_and_have_no_authority_of_ours(pair: tuple[Path, Path], company: Identity) -> None:
    settings = ServerSettings(ssl_cert_file=str(pair[0]), ssl_key_file=str(pair[1]))

    certificates = open_certificates(settings, {})

    assert isinstance(certificates, CertificateFiles)
    assert certificates.authority_pem() is None
    await served_certificate(certificates, trusting=company.certificate_pem(), name="localhost")


async def test_files_that_change_are_picked_up(pair: tuple[Path, Path], company: Identity) -> None:
    certificates = CertificateFiles(*pair)
    assert not certificates.renew_if_needed()
    newer = make_server_identity(company, ["newer.local"], NOW)

    write_pair(pair, newer)
    assert certificates.renew_if_needed()

    assert not certificates.renew_if_needed()
    await served_certificate(certificates, trusting=company.certificate_pem(), name="newer.local")


async def test_files_that_are_changed_one_after_the_other_are_used_when_both_are_there(
    pair: tuple[Path, Path], company: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = CertificateFiles(*pair)
    newer = make_server_identity(company, ["newer.local"], NOW)
    pair[0].write_bytes(newer.certificate_pem())

    assert not certificates.renew_if_needed()
    assert not certificates.renew_if_needed()
    assert warnings(caplog).count("the private key is not the certificate's") == 1
    await served_certificate(certificates, trusting=company.certificate_pem(), name="localhost")

    assert str(certificates.trouble()).startswith("The new certificate files are not used: ")
    with pytest.raises(ConfigError, match="the private key is not the certificate's"):
        certificates.reload()
    await served_certificate(certificates, trusting=company.certificate_pem(), name="localhost")

    write_pair(pair, newer)
    assert certificates.renew_if_needed()
    assert certificates.trouble() is None
    await served_certificate(certificates, trusting=company.certificate_pem(), name="newer.local")


async def test_files_that_vanish_leave_the_certificate_in_use(
    pair: tuple[Path, Path], company: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = CertificateFiles(*pair)
    pair[1].unlink()

    assert not certificates.renew_if_needed()

    assert "privkey.pem: cannot be read: No such file or directory" in warnings(caplog)
    await served_certificate(certificates, trusting=company.certificate_pem(), name="localhost")


def test_expired_file_is_used_with_one_warning(pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    certificates = CertificateFiles(*pair, lambda: NOW + timedelta(days=500))

    certificates.renew_if_needed()

    assert warnings(caplog).count("browsers refuse it; replace it") == 1
    assert str(certificates.trouble()).endswith("browsers refuse it; replace it")


def test_files_that_cannot_be_used_stop_the_start(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    absent = certificate.with_name("absent.pem")
    foreign = certificate.with_name("foreign.pem")
    foreign.write_bytes(make_authority("Other", NOW).to_pem())

    with pytest.raises(ConfigError, match=r"^server\.ssl_cert_file is .*absent\.pem: cannot be read: No such file"):
        CertificateFiles(absent, key)
    with pytest.raises(ConfigError, match=r"^server\.ssl_key_file is .*: cannot be read: Is a directory"):
        CertificateFiles(certificate, certificate.parent)
    with pytest.raises(ConfigError, match=r"foreign\.pem: the private key is not the certificate's$"):
        CertificateFiles(certificate, foreign)
    with pytest.raises(ConfigError, match=r"there is no certificate in PEM format$"):
        CertificateFiles(key, key)
    with pytest.raises(ConfigError, match=r"there is no private key in PEM format$"):
        CertificateFiles(certificate, certificate)
