"""Where certificates come from, how they are kept, and what a TLS client gets."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.tls_client import handshake, hang_up, served_certificate, warnings
from voice_streaming.network.certificates import Identity, make_authority, make_server_identity
from voice_streaming.network.local_certificates import LocalCertificates
from voice_streaming.network.tls import local_names, open_certificates
from voice_streaming.network.tls_context import TlsUnavailable
from voice_streaming.settings.model import ServerSettings

_NOBODY = 65534


class Machine:
    """What a certificate depends on: the machine's clock and its names."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.names = ["kitchenbox.local", "localhost", "127.0.0.1", "192.168.1.20"]

    def certificates(self, folder: Path) -> LocalCertificates:
        return LocalCertificates(folder, lambda: self.names, lambda: self.now)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tls"


@pytest.fixture(autouse=True)
def _every_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "voice_streaming.network")


# -- what a client gets


async def test_client_that_trusts_the_authority_is_served_at_every_name(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)

    for name in machine.names:
        served = await served_certificate(certificates, trusting=certificates.authority_pem(), name=name)
        assert ("DNS", "localhost") in served["subjectAltName"]


async def test_client_refuses_another_authority_and_another_name(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)
    stranger = make_authority("Voice streaming on kitchenbox", machine.now).certificate_pem()

    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        await served_certificate(certificates, trusting=stranger, name="localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'elsewhere\.local'"):
        await served_certificate(certificates, trusting=certificates.authority_pem(), name="elsewhere.local")


async def test_old_protocol_versions_are_refused(folder: Path, machine: Machine) -> None:
    assert machine.certificates(folder).context().minimum_version is ssl.TLSVersion.TLSv1_2


async def test_server_that_is_listening_serves_a_new_address_after_renewal(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)
    authority_pem, context = certificates.authority_pem(), certificates.context()
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        before = await handshake(port, authority_pem, "192.168.1.20")
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(port, authority_pem, "10.0.0.7")

        machine.names = ["kitchenbox.local", "localhost", "127.0.0.1", "10.0.0.7"]
        assert certificates.renew_if_needed()

        after = await handshake(port, authority_pem, "10.0.0.7")
    assert after["serialNumber"] != before["serialNumber"]
    assert certificates.context() is context
    assert certificates.authority_pem() == authority_pem


# -- renewal


def test_nothing_is_made_anew_without_a_reason(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)
    content = contents(folder)

    assert not certificates.renew_if_needed()
    assert not machine.certificates(folder).renew_if_needed()
    assert contents(folder) == content


def test_certificate_is_renewed_a_month_before_it_expires(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)
    authority_pem = certificates.authority_pem()

    machine.now += timedelta(days=365)
    assert not certificates.renew_if_needed()
    machine.now += timedelta(days=2)
    assert certificates.renew_if_needed()

    server = stored(folder, "server.pem")
    assert server.certificate.not_valid_after_utc > machine.now + timedelta(days=390)
    assert server.is_signed_by(stored(folder, "authority.pem"))
    assert certificates.authority_pem() == authority_pem
    assert not certificates.renew_if_needed()


def test_name_that_went_away_renews_nothing(folder: Path, machine: Machine) -> None:
    certificates = machine.certificates(folder)

    machine.names = machine.names[:-1]

    assert not certificates.renew_if_needed()


def test_changed_host_name_renews_at_the_next_start(folder: Path, machine: Machine) -> None:
    authority_pem = machine.certificates(folder).authority_pem()

    machine.names = ["livingroom.local", *machine.names[1:]]
    certificates = machine.certificates(folder)

    assert certificates.authority_pem() == authority_pem
    assert stored(folder, "server.pem").names() == set(machine.names)


def test_authority_that_expires_soon_is_replaced_with_a_warning(
    folder: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = machine.certificates(folder)
    old = stored(folder, "authority.pem")

    machine.now += timedelta(days=3630)
    assert certificates.renew_if_needed()

    assert "open /ca.crt there" in warnings(caplog)
    assert certificates.authority_pem() != old.certificate_pem()
    assert stored(folder, "server.pem").is_signed_by(stored(folder, "authority.pem"))
    assert stored(folder, "authority.pem.expired").certificate == old.certificate


def test_clock_that_is_years_behind_changes_nothing(folder: Path, machine: Machine) -> None:
    machine.certificates(folder)
    content = contents(folder)

    machine.now = datetime(1970, 1, 1, tzinfo=UTC)
    certificates = machine.certificates(folder)

    assert not certificates.renew_if_needed()
    assert contents(folder) == content


def test_certificate_of_a_clock_that_was_ahead_is_renewed_under_the_same_authority(
    folder: Path, machine: Machine
) -> None:
    certificates = machine.certificates(folder)
    authority_pem, right_time = certificates.authority_pem(), machine.now
    machine.now += timedelta(days=700)
    assert certificates.renew_if_needed()

    machine.now = right_time + timedelta(minutes=1)
    assert certificates.renew_if_needed()

    assert stored(folder, "server.pem").certificate.not_valid_before_utc < machine.now
    assert certificates.authority_pem() == authority_pem


def test_renewal_that_cannot_be_written_is_reported_once_and_keeps_the_certificate(
    folder: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = machine.certificates(folder)
    content = contents(folder)
    machine.names = [*machine.names, "10.0.0.7"]

    # A folder that is not there any more: the one failure that stops root too.
    folder.rename(folder.with_name("elsewhere"))
    assert not certificates.renew_if_needed()
    assert not certificates.renew_if_needed()
    assert warnings(caplog).count("cannot be renewed") == 1

    folder.with_name("elsewhere").rename(folder)
    assert contents(folder) == content
    assert certificates.renew_if_needed()


# -- the folder


def test_keys_are_for_their_owner_alone(folder: Path, machine: Machine) -> None:
    mask = os.umask(0)
    try:
        machine.certificates(folder)
    finally:
        os.umask(mask)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "authority.pem": 0o600,
        "server.pem": 0o600,
    }


def test_key_that_was_open_to_others_is_closed(
    folder: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.certificates(folder)
    (folder / "authority.pem").chmod(0o644)

    machine.certificates(folder)

    assert stat.S_IMODE((folder / "authority.pem").stat().st_mode) == 0o600
    assert "authority.pem was open to other users" in warnings(caplog)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nMIG", b"\x00" * 800])
def test_damaged_server_certificate_is_made_anew_under_the_same_authority(
    folder: Path, machine: Machine, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    authority_pem = machine.certificates(folder).authority_pem()
    (folder / "server.pem").write_bytes(content)

    certificates = machine.certificates(folder)

    assert "server.pem is damaged" in warnings(caplog)
    assert certificates.authority_pem() == authority_pem
    assert stored(folder, "server.pem").is_signed_by(stored(folder, "authority.pem"))


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.6, 0.95])
async def test_half_written_authority_is_kept_aside_and_made_anew_with_a_warning(
    folder: Path, machine: Machine, caplog: pytest.LogCaptureFixture, kept: float
) -> None:
    machine.certificates(folder)
    whole = (folder / "authority.pem").read_bytes()
    (folder / "authority.pem").write_bytes(whole[: int(len(whole) * kept)])

    certificates = machine.certificates(folder)

    assert "authority.pem is damaged" in warnings(caplog)
    assert "open /ca.crt there" in warnings(caplog)
    assert (folder / "authority.pem.damaged").read_bytes() == whole[: int(len(whole) * kept)]
    await served_certificate(certificates, trusting=certificates.authority_pem(), name="localhost")


def test_file_that_is_no_authority_is_never_replaced(folder: Path, machine: Machine) -> None:
    machine.certificates(folder)
    no_authority = (folder / "server.pem").read_bytes()
    (folder / "authority.pem").write_bytes(no_authority)

    with pytest.raises(TlsUnavailable, match=r"authority\.pem is no certificate authority; remove the file"):
        machine.certificates(folder)
    assert (folder / "authority.pem").read_bytes() == no_authority


def test_server_certificate_of_another_authority_is_replaced(folder: Path, machine: Machine) -> None:
    machine.certificates(folder)
    stranger = make_authority("Voice", machine.now)
    (folder / "server.pem").write_bytes(make_server_identity(stranger, machine.names, machine.now).to_pem())

    machine.certificates(folder)

    assert stored(folder, "server.pem").is_signed_by(stored(folder, "authority.pem"))


def test_nothing_is_left_behind_by_an_interrupted_write(
    folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # A full disk cannot be made here without mounting one.
    with pytest.raises(TlsUnavailable, match=r"No space left on device; set server\.data_dir to another folder"):
        machine.certificates(folder)
    assert list(folder.iterdir()) == []


async def test_processes_that_start_at_once_share_one_authority(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from voice_streaming.network.local_certificates import LocalCertificates\n"
        "sys.stdin.readline()\n"
        "certificates = LocalCertificates(Path(sys.argv[1]), lambda: ['localhost', '127.0.0.1'])\n"
        "print(certificates.authority_pem().decode())"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(folder), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(6)
    ]

    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))

    assert {output for output, _ in outputs} == {stored(folder, "authority.pem").certificate_pem() + b"\n"}
    assert stored(folder, "server.pem").is_signed_by(stored(folder, "authority.pem"))
    assert set(contents(folder)) == {"authority.pem", "server.pem"}


def test_folder_that_cannot_be_written_means_no_https_and_one_warning(
    ordinary_user: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ordinary_user.chmod(0o500)

    assert open_certificates(ServerSettings(data_dir=str(ordinary_user)), {}) is None

    assert len(caplog.records) == 1
    assert warnings(caplog) == (
        "No HTTPS, so other machines' browsers give no microphone: "
        f"{ordinary_user}/tls: Permission denied; set server.data_dir to another folder"
    )


def test_user_without_a_home_folder_means_no_https_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container that runs under a number which no account has."""

    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME")

    assert open_certificates(ServerSettings(), {}) is None
    assert warnings(caplog).endswith('server.data_dir is "": this user has no home folder, so name a folder')


def test_folder_that_became_read_only_is_still_used(ordinary_user: Path, machine: Machine) -> None:
    folder = ordinary_user / "tls"
    authority_pem = machine.certificates(folder).authority_pem()
    folder.chmod(0o500)
    machine.names = [*machine.names, "10.0.0.7"]

    assert machine.certificates(folder).authority_pem() == authority_pem
    folder.chmod(0o700)


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of an ordinary user's, who this process is meanwhile: no folder is read-only to root."""
    with tempfile.TemporaryDirectory() as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, _NOBODY, _NOBODY)
            os.seteuid(_NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
            Path(name).chmod(0o700)


def test_off_means_no_certificates(tmp_path: Path) -> None:
    assert open_certificates(ServerSettings(tls="off", data_dir=str(tmp_path)), {}) is None
    assert list(tmp_path.iterdir()) == []


def test_local_names_cover_the_machine_and_what_the_settings_add() -> None:
    names = local_names("*", ("Box.Fritz.Box", "FD00::00AA"))

    assert {"localhost", "homeassistant.local", "127.0.0.1", "::1", "box.fritz.box", "fd00::aa"} <= set(names)
    assert len(names) == len(set(names))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(folder: Path, name: str) -> Identity:
    return Identity.from_pem((folder / name).read_bytes())
