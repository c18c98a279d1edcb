"""The command line, as a program of its own: what it says and the codes that it exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from voice_streaming import __version__

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import asyncio, logging, sys
from voice_streaming.program import command_line

async def serve(settings, demo, read_settings, requests):
    logging.getLogger("a.module").info("served")
    logging.getLogger("aioice.ice").info("chatter")
    print(settings.server.host, settings.server.port, settings.audio.port, settings.server.log_level, demo)
    if settings.server.port == 1001:
        raise command_line.StartError("port 1001 cannot be opened: perhaps another program holds it")
    if settings.server.port == 1002:
        raise KeyboardInterrupt

sys.exit(command_line.run(serve))
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_settings_come_from_every_layer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"server": {"host": "127.0.0.1", "port": 1005}, "audio": {"port": 2005}}')
    ended = run(tmp_path, "--config", "config.json", "--port", "1006", "--demo", AUDIO_PORT="2006")
    assert (ended.returncode, ended.stdout) == (0, "127.0.0.1 1006 2006 INFO True\n")
    assert "INFO    served" in ended.stderr
    assert "chatter" not in ended.stderr


def test_without_a_name_the_file_beside_the_program_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("not this one")
    assert run(tmp_path).stdout == "0.0.0.0 8080 8081 INFO False\n"


def test_the_file_may_be_named_by_argument_or_environment(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"server": {"host": "::1", "log_level": "ERROR"}}')
    for arguments, environment in ((["--config", "other.json"], {}), ([], {"CONFIG": "other.json"})):
        ended = run(tmp_path, *arguments, **environment)
        assert (ended.returncode, ended.stdout) == (0, "::1 8080 8081 ERROR False\n")
        assert ended.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "70000"], "command line: server.port is 70000: "),
        (["--log-level", "LOUD"], 'command line: server.log_level is "LOUD": allowed are '),
        (["--config", "missing.json"], "missing.json: cannot be read: "),
    ],
)
def test_a_wrong_setting_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], reason: str) -> None:
    ended = run(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {reason}")


@pytest.mark.parametrize("arguments", [["--port", "http"], ["--unknown"], ["stray"]])
def test_a_wrong_argument_is_code_2(tmp_path: Path, arguments: list[str]) -> None:
    ended = run(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: ")


def test_a_server_that_cannot_start_is_one_line_and_code_1(tmp_path: Path) -> None:
    ended = run(tmp_path, "--port", "1001", "--log-level", "ERROR")
    assert ended.returncode == 1
    assert ended.stderr == "error: port 1001 cannot be opened: perhaps another program holds it\n"


def test_an_interrupt_is_code_130_without_a_trace(tmp_path: Path) -> None:
    ended = run(tmp_path, "--port", "1002", "--log-level", "ERROR")
    assert (ended.returncode, ended.stderr) == (130, "")


def test_version_and_help(tmp_path: Path) -> None:
    ended = run(tmp_path, "--version")
    assert (ended.returncode, ended.stdout.strip()) == (0, __version__)
    ended = run(tmp_path, "--help")
    assert ended.returncode == 0
    for option in ("--host", "--port", "--audio-port", "--config", "--log-level", "--demo", "--version"):
        assert option in ended.stdout


def test_the_log_is_json_where_that_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"server": {"log_format": "json"}}')
    lines = run(tmp_path, "--config", "other.json").stderr.splitlines()
    served = [json.loads(line) for line in lines if "served" in line]
    assert [(line["level"], line["logger"], line["message"]) for line in served] == [("INFO", "a.module", "served")]
