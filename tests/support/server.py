"""The daemon as a second process, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.forked_daemon import CAN_FORK, forked_daemon
from tests.support.ports import free_port
from tests.support.process import ChildProcess, child_process

REPOSITORY = Path(__file__).resolve().parents[2]
DAEMON = REPOSITORY / "webrtc_server_relay.py"

# Environment variables that would change the daemon's settings behind the test's back (DESIGN section 6).
_SETTING_VARIABLES = (
    "CONFIG",
    "HOST",
    "PORT",
    "AUDIO_PORT",
    "LOG_LEVEL",
    "SSL_CERT_FILE",
    "SSL_KEY_FILE",
    "INGRESS_PORT",
)


class ServerFailed(AssertionError):
    """The daemon did not start, or did not end, as it should. The text holds the end of its log."""


@dataclass
class RunningServer:
    """A daemon that answers on /health."""

    process: ChildProcess
    port: int
    audio_port: int
    directory: Path
    startup_s: float
    """Until the first answer, without the time in which other programs had the processors."""
    host: str = "127.0.0.1"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}/ws"

    @property
    def log(self) -> list[str]:
        return self.process.log

    def url(self, path: str) -> str:
        """Address of a page or route (`/sender`) on the signalling port."""
        return f"http://{self.host}:{self.port}{path}"

    def audio_url(self, path: str) -> str:
        """Address of a route (`/stream/latest.mp3`) on the audio port."""
        return f"http://{self.host}:{self.audio_port}{path}"

    async def stop(self, *, expected_exit_code: int = 0, timeout_s: float = 10) -> None:
        """End the daemon as systemd or Docker would, by SIGTERM; ServerFailed if it ends late or with another code."""
        if self.process.exit_code is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            exit_code = await self.process.wait(timeout_s)
        except TimeoutError:
            raise ServerFailed(f"still running {timeout_s} s after SIGTERM; {self.process.log_text()}") from None
        if exit_code != expected_exit_code:
            raise ServerFailed(f"exit code {exit_code}, not {expected_exit_code}; {self.process.log_text()}")


def merge_config(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the settings of `changes` laid over it, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge_config(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


@asynccontextmanager
async def running_server(
    config: Mapping[str, Any] | None = None,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    expected_exit_code: int = 0,
    start_timeout_s: float = 20,
    program: Path = DAEMON,
    ports: tuple[int, int] | None = None,
    host: str = "127.0.0.1",
    probe: str = "",
    namespace: str = "",
    may_fork: bool = True,
) -> AsyncIterator[RunningServer]:
    """Run the daemon on free loopback ports, in an empty directory of its own, while the block runs.

    `config` is laid over the ports and loopback candidates, `environment` over this process's environment. At the end
    the daemon is stopped by SIGTERM and must end with `expected_exit_code`, unless the block has stopped it already.
    When the block raises, the daemon's log is added to the exception. `ports`, the signalling and the audio port, are
    those of a daemon that was there before and is gone; `host` is another address of
    this machine's to listen and to gather candidates on, and `probe` where it answers, if not there. It runs in the
    network `namespace` if one is named. With `may_fork` false it is started from its file in any case.
    """
    port, audio_port = ports or (free_port(), free_port())
    base = {
        "server": {"host": host, "port": port, "tls": "off"},
        "audio": {"port": audio_port},
        "webrtc": {"host_addresses": [host]},
        # Daemons of tests that run at the same time would be found under one host name.
        "discovery": {"lan": False},
    }
    with tempfile.TemporaryDirectory(prefix="voice-server-") as name:
        directory = Path(name)
        config_file = directory / "config.json"
        config_file.write_text(json.dumps(merge_config(base, config or {}), indent=2))
        inherited = {key: value for key, value in os.environ.items() if key not in _SETTING_VARIABLES}
        where = ["ip", "netns", "exec", namespace] if namespace else []
        begun_s = time.monotonic()
        async with _process(
            where,
            [program, "--config", config_file, *arguments],
            {**inherited, "PYTHONUNBUFFERED": "1", "XDG_DATA_HOME": name, **(environment or {})},
            directory,
            may_fork=may_fork and not (where or environment) and program == DAEMON,
        ) as process:
            await _wait_until_healthy(process, f"http://{probe or host}:{port}/health", start_timeout_s)
            if program == DAEMON and "--demo" in arguments:
                # The server answers a moment before the demo's first packet.
                await process.wait_for_log("Stream 'demo' is live")
            startup_s = time.monotonic() - begun_s - _kept_waiting_s(process.pid)
            server = RunningServer(process, port, audio_port, directory, startup_s, host)
            try:
                yield server
            except BaseException as error:
                error.add_note(process.log_text())
                raise
            await server.stop(expected_exit_code=expected_exit_code)


def _process(
    where: Sequence[str],
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    directory: Path,
    *,
    may_fork: bool,
) -> AbstractAsyncContextManager[ChildProcess]:
    if may_fork and CAN_FORK:
        return forked_daemon(command, environment, directory)
    return child_process([*where, sys.executable, *command], environment=environment, directory=directory)


def _kept_waiting_s(pid: int) -> float:
    """How long the process, ready to run, has waited for a processor; 0 where the kernel does not tell."""
    try:
        _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:
        return 0.0
    return int(waited_ns) / 1e9


async def _wait_until_healthy(process: ChildProcess, url: str, timeout_s: float) -> None:
    """Return when `url` answers 200; ServerFailed if the program ends first or the time is over."""
    deadline_s = time.monotonic() + timeout_s
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline_s:
            if process.exit_code is not None:
                await process.wait(timeout_s=5)
                raise ServerFailed(f"ended with code {process.exit_code} at the start; {process.log_text()}")
            try:
                async with http.get(url, timeout=aiohttp.ClientTimeout(total=1)) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                # Nobody listens there yet.
                pass
            await asyncio.sleep(0.02)
    raise ServerFailed(f"{url} does not answer after {timeout_s} s; {process.log_text()}")
