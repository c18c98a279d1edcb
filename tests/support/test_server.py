"""Starting and stopping the daemon, against stand-ins that start well, late, badly, or end badly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.ports import free_port
from tests.support.process import child_process
from tests.support.server import ServerFailed, running_server

STAND_IN = """
import json, os, signal, sys
from aiohttp import web

settings = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
print("settings", json.dumps(settings), "arguments", sys.argv[3:], "PORT", os.environ.get("PORT"), flush=True)

async def health(request):
    return web.json_response({"pid": os.getpid()})

app = web.Application()
app.router.add_get("/health", health)
web.run_app(app, host=settings["server"]["host"], port=settings["server"]["port"], print=None)
sys.exit(settings["exit_code"])
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    return program


async def test_server_runs_with_its_settings_and_is_gone_afterwards(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "1")
    config = {"exit_code": 0, "server": {"queue_size": 5}}
    async with running_server(config, arguments=["--demo"], program=stand_in) as server:
        async with aiohttp.ClientSession() as http, http.get(server.url("/health")) as response:
            pid = (await response.json())["pid"]
        line = await server.process.wait_for_log("settings")
        assert f'"port": {server.port}' in line
        assert '"queue_size": 5' in line
        assert "arguments ['--demo'] PORT None" in line
        assert server.startup_s > 0
        assert pid == server.process.pid
    assert server.process.exit_code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("may_fork", [True, False])
async def test_a_daemon_is_a_process_of_its_own(may_fork: bool) -> None:
    async with running_server(may_fork=may_fork, expected_exit_code=-signal.SIGKILL) as server:
        pid = server.process.pid
        assert os.getsid(pid) == pid != os.getsid(0)
        if sys.platform == "linux":
            assert Path(os.readlink(f"/proc/{pid}/cwd")) == server.directory
        assert await server.process.wait_for_log("Talk:")
        os.kill(pid, signal.SIGKILL)
        assert await server.process.wait(timeout_s=5) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_another_exit_code_is_a_failure(stand_in: Path) -> None:
    with pytest.raises(ServerFailed, match="exit code 3, not 0"):
        async with running_server({"exit_code": 3}, program=stand_in):
            pass
    async with running_server({"exit_code": 3}, program=stand_in, expected_exit_code=3):
        pass


async def test_a_server_that_ends_at_the_start_shows_its_log(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit('server.port: 0 is not allowed')")
    with pytest.raises(ServerFailed, match=r"ended with code 1 at the start(.|\n)*server.port: 0 is not allowed"):
        async with running_server(program=program):
            pass


async def test_a_server_that_never_answers_is_a_failure(tmp_path: Path) -> None:
    program = tmp_path / "deaf.py"
    program.write_text("import time; print('asleep', flush=True); time.sleep(30)")
    with pytest.raises(ServerFailed, match=r"does not answer(.|\n)*asleep"):
        async with running_server(program=program, start_timeout_s=1):
            pass


async def test_the_log_is_added_to_an_exception_of_the_block(stand_in: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        async with running_server({"exit_code": 0}, program=stand_in):
            raise ZeroDivisionError
    assert "settings" in raised.value.__notes__[0]


async def test_nothing_that_a_program_started_outlives_it() -> None:
    async with child_process(["sh", "-c", "sleep 60 & echo started $!; wait"]) as shell:
        started = int((await shell.wait_for_log("started")).split()[1])
        os.kill(started, 0)
    for _ in range(100):
        if not runs(started):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"process {started} still runs")


def runs(pid: int) -> bool:
    """Whether a process is there, and not just waiting for its adoptive parent to take note of its end (state Z)."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(20)}) > 15
