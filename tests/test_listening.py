"""Every address or one: what is listened on is what is said, checked and certified."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.server import DAEMON, REPOSITORY, running_server
from voice_streaming.network.addresses import addresses_listened_on
from voice_streaming.network.certificates import Identity

pytestmark = pytest.mark.e2e


def answers(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


@pytest.mark.parametrize(
    ("host", "here", "open_at", "closed_at"),
    [
        ("0.0.0.0", "127.0.0.1", ["127.0.0.1"], ["::1"]),
        ("::", "[::1]", ["::1"], ["127.0.0.1"]),
        ("*", "127.0.0.1", ["127.0.0.1", "::1"], []),
        ("", "127.0.0.1", ["127.0.0.1", "::1"], []),
    ],
)
async def test_every_address_of_a_kind_or_of_both(
    tmp_path: Path, host: str, here: str, open_at: list[str], closed_at: list[str]
) -> None:
    server = {"host": host, "tls": "auto", "tls_port": free_port(), "data_dir": str(tmp_path)}
    config = {"server": server, "discovery": {"lan": False}}
    async with running_server(config, probe=here) as running:
        ports = (running.port, running.audio_port, server["tls_port"])
        assert all(answers(address, int(str(port))) for address in open_at for port in ports)
        assert not any(answers(address, int(str(port))) for address in closed_at for port in ports)

        environment = os.environ | {"CONFIG": str(running.directory / "config.json")}
        command = [sys.executable, "-m", "voice_streaming.program.healthcheck"]
        checked = await asyncio.to_thread(
            subprocess.run, command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30
        )
        assert (checked.returncode, checked.stdout) == (0, "/health answers 200\n")

        await running.process.wait_for_log(f"(on this machine: http://{here}:{running.port}/sender)")
        certified = Identity.from_pem((tmp_path / "tls" / "server.pem").read_bytes()).names()
        assert set(open_at) <= certified
        assert not set(closed_at) & certified
        assert set(addresses_listened_on(host)) <= certified


def test_a_new_authority_is_made_on_command(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"server": {{"data_dir": "{tmp_path}", "tls_names": ["box.fritz.box"]}}}}')
    authority = tmp_path / "tls" / "authority.pem"
    command: list[str | Path] = [sys.executable, DAEMON, "renew-authority", "--config", tmp_path / "config.json"]
    made = []
    for _ in range(2):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert ended.returncode == 0, ended.stderr
        assert f"{tmp_path}/tls. Restart the server, then open /certificate" in ended.stdout
        made.append(Identity.from_pem(authority.read_bytes()))
    assert made[0].certificate != made[1].certificate
    assert made[1].may_vouch_for("box.fritz.box")
    assert not made[1].may_vouch_for("fritz.box")
    assert Identity.from_pem((tmp_path / "tls" / "server.pem").read_bytes()).is_signed_by(made[1])


def test_without_an_authority_there_is_none_to_renew(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"server": {"tls": "off"}}')
    command: list[str | Path] = [sys.executable, DAEMON, "renew-authority", "--config", tmp_path / "config.json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: server.tls")
