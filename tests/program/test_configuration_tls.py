"""The settings of HTTPS, and what they must not be together."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from voice_streaming.network.certificates import make_authority, make_server_identity
from voice_streaming.program.configuration import load
from voice_streaming.settings.model import ConfigError, ServerSettings, data_folder


def test_data_folder_is_the_given_one_then_the_add_ons_then_the_users(tmp_path: Path) -> None:
    absent, options = tmp_path / "none" / "options.json", tmp_path / "options.json"
    options.write_text("{}")
    settings = ServerSettings()

    assert data_folder(ServerSettings(data_dir="/var/lib/voice"), {}, options_path=options) == Path("/var/lib/voice")
    assert data_folder(settings, {"XDG_DATA_HOME": "/x"}, options_path=options) == tmp_path
    assert data_folder(settings, {"XDG_DATA_HOME": "/x"}, options_path=absent) == Path("/x/voice-streaming")
    assert data_folder(settings, {}, options_path=absent) == Path.home() / ".local/share/voice-streaming"


def loaded(environment: dict[str, str], tmp_path: Path, **overrides: Any) -> ServerSettings:
    dotted = {f"server.{key}": value for key, value in overrides.items()}
    absent = tmp_path / "absent.json"
    return load(None, environment, dotted, default_path=absent, options_path=absent).server


def test_environment_names_the_certificate_files(tmp_path: Path) -> None:
    server = loaded({"SSL_CERT_FILE": "c.pem", "SSL_KEY_FILE": "k.pem"}, tmp_path)

    assert (server.tls, server.ssl_cert_file, server.ssl_key_file) == ("auto", "c.pem", "k.pem")


@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        ({"SSL_CERT_FILE": "c.pem"}, {}, 'server.ssl_key_file is "": give both'),
        ({"SSL_CERT_FILE": "c.pem"}, {}, "`SSL_CERT_FILE= python webrtc_server_relay.py` starts without"),
        ({"SSL_CERT_FILE": "c.pem"}, {"tls": "files"}, 'server.ssl_key_file is "": give both'),
        ({}, {"ssl_cert_file": "c.pem"}, 'server.ssl_key_file is "": give both'),
        ({"SSL_KEY_FILE": "k.pem"}, {}, 'server.ssl_cert_file is "": give both'),
        ({"SSL_KEY_FILE": "k.pem"}, {"tls": "files"}, 'server.ssl_cert_file is "": give both'),
        ({}, {"tls": "files"}, 'server.tls is "files": it needs server.ssl_cert_file and server.ssl_key_file'),
        ({}, {"tls": "yes"}, 'command line: server.tls is "yes": allowed are auto, files, off'),
        ({}, {"tls_port": 0}, "command line: server.tls_port is 0: expected `int` >= 1"),
        ({}, {"tls_port": 8080}, "server.port is 8080: server.tls_port is the same"),
        ({}, {"tls_port": 8081}, "audio.port is 8081: server.tls_port is the same"),
        ({}, {"tls_names": ["https://box"]}, "command line: server.tls_names.0 is"),
    ],
)
def test_settings_that_do_not_fit_stop_the_start_with_one_line(
    tmp_path: Path, environment: dict[str, str], overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(environment, tmp_path, **overrides)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_systems_list_of_authorities_does_not_stop_the_start(tmp_path: Path) -> None:
    """Many systems set SSL_CERT_FILE to it for every program."""
    now = datetime.now(UTC)
    authority = make_authority("One", now, ["localhost"])
    lists = tmp_path / "authorities.pem"
    lists.write_bytes(authority.certificate_pem() + make_authority("Two", now, ["localhost"]).certificate_pem())
    assert loaded({"SSL_CERT_FILE": str(lists)}, tmp_path).ssl_cert_file == ""

    certificate = tmp_path / "fullchain.pem"
    server = make_server_identity(authority, ["localhost"], now)
    certificate.write_bytes(server.certificate_pem() + authority.certificate_pem())
    with pytest.raises(ConfigError, match=r"server\.ssl_key_file"):
        loaded({"SSL_CERT_FILE": str(certificate)}, tmp_path)


def test_files_and_ports_of_no_https_do_not_matter(tmp_path: Path) -> None:
    assert loaded({"SSL_CERT_FILE": "/etc/ssl/cert.pem"}, tmp_path, tls="off", tls_port=8080).tls == "off"
