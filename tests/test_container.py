"""Images, compose and systemd: what can be held without an engine. scripts/check_dockerfile.py builds and runs them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from scripts.dockerfile import Instruction, Stage, read
from tests.support.availability import require_program
from tests.support.ports import free_port
from tests.support.server import REPOSITORY, running_server


def last(stage: Stage, keyword: str) -> Instruction:
    found = stage.last(keyword)
    assert found is not None, f"{stage.name} has no {keyword}"
    return found


@pytest.mark.any_python
def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_images() -> None:
    stages = read(REPOSITORY / "Dockerfile")
    assert [stage.name for stage in stages] == ["packages", "server", "addon"]
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+|server", stage.base) for stage in stages)
    server, addon = stages[1:]
    assert last(server, "USER").text == "10001:10001"
    assert last(server, "CMD").words == ("python", "webrtc_server_relay.py")
    assert last(server, "HEALTHCHECK").words == ("python", "-m", "voice_streaming.healthcheck")
    assert last(server, "STOPSIGNAL").text == "SIGTERM"
    ports = {f"{port}/tcp" for port in (8080, 8081, 8443)}
    assert set(last(server, "EXPOSE").text.split()) == ports
    labels = addon.pairs("LABEL")
    assert labels["io.hass.type"] == "app"
    assert labels["io.hass.version"] == "$BUILD_VERSION"
    assert set(labels["io.hass.arch"].split("|")) == {"aarch64", "amd64"}
    assert "only-binary=:all:" in last(stages[0], "RUN").text


def test_compose_uses_the_image_as_it_is_meant() -> None:
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert service["build"] == {"context": ".", "target": "server"}
    assert service["network_mode"] == "host"
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "voice_streaming.healthcheck"]
    (volume,) = compose["volumes"]
    assert service["volumes"] == [f"{volume}:/data"]


@pytest.mark.any_python
def test_systemd_unit_verifies(tmp_path: Path) -> None:
    analyze = require_program("systemd-analyze")
    program = tmp_path / "opt"
    (program / ".venv/bin").mkdir(parents=True)
    for name in (".venv/bin/python", "webrtc_server_relay.py"):
        (program / name).touch(mode=0o755)
    unit = tmp_path / "voice-streaming.service"
    unit.write_text((REPOSITORY / unit.name).read_text().replace("/opt/voice-streaming", str(program)))
    ended = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "StateDirectory=voice-streaming", "NoNewPrivileges=yes"):
        assert line in unit.read_text().splitlines()


async def healthcheck(**environment: str) -> tuple[int | None, str]:
    """What the image's HEALTHCHECK says with these variables."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "voice_streaming.healthcheck"),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().strip()


async def test_the_healthcheck_tells_a_server_that_runs_from_one_that_does_not() -> None:
    async with running_server() as server:
        assert await healthcheck(PORT=str(server.port)) == (0, "/health answers 200")
        await server.stop()
        code, said = await healthcheck(PORT=str(server.port))
    assert code == 1
    assert said.startswith("no answer: ")


async def test_the_healthcheck_of_an_addon_asks_at_the_port_that_users_do_not_change() -> None:
    port = free_port()
    async with running_server(environment={"INGRESS_PORT": str(port)}):
        assert await healthcheck(PORT=str(free_port()), INGRESS_PORT=str(port)) == (0, "/health answers 200")


async def test_the_healthcheck_wants_more_than_an_open_port() -> None:
    """Something else has the port, and answers."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        assert await healthcheck(PORT=str(runner.addresses[0][1])) == (1, "/health answers 404")
    finally:
        await runner.cleanup()
