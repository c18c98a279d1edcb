"""The server under test: started on its own core, read from outside, ended without fail."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from load_process import LoadError, pin

ROOT = Path(__file__).resolve().parent.parent
# From the environment these would win over the configuration file.
_SETTINGS = {"HOST", "PORT", "AUDIO_PORT", "LOG_LEVEL", "SSL_CERT_FILE", "SSL_KEY_FILE", "CONFIG"}
_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Usage:
    """Of the server at one moment. `core_busy_s` is what its core has done for anybody."""

    at_s: float
    cpu_s: float
    core_busy_s: float
    resident_bytes: int
    threads: float
    socket_drops: int


# All of the load comes from one address.
_NO_LIMITS = {
    "connections_per_address": 100_000,
    "tcp_connections_per_address": 100_000,
    "max_receivers": 100_000,
    "max_negotiations": 10_000,
}


class ServerProcess:
    """A relay at `url`, answering its health check. The caller must `stop` it."""

    def __init__(
        self,
        script: str,
        core: int,
        limits: dict[str, int] | None = None,
        webrtc: dict[str, float] | None = None,
        sources: dict[str, dict[str, str]] | None = None,
        audio: dict[str, int] | None = None,
        recording: dict[str, str] | None = None,
        cluster: dict[str, str] | None = None,
    ) -> None:
        """`limits`: instead of limits that no benchmark reaches; `webrtc`, `audio`, `recording` and `cluster`: other
        settings than its own defaults.

        `sources`: the streams to pull from other servers.
        """
        self._core = core
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        port, audio_port = free_port(), free_port()
        config = {
            "server": {
                "host": "127.0.0.1",
                "port": port,
                "max_connections": 5000,
                "tls": "off",
                "data_dir": str(folder),
            },
            "audio": {"port": audio_port, **(audio or {})},
            "limits": _NO_LIMITS if limits is None else limits,
            "webrtc": {"host_addresses": ["127.0.0.1"], **(webrtc or {})},
            "sources": sources or {},
            "recording": recording or {},
            "cluster": cluster or {},
        }
        (folder / "config.json").write_text(json.dumps(config))
        self._log = folder / "log.txt"
        self.port = port
        self.audio_port = audio_port
        self.url = f"http://127.0.0.1:{port}"
        own_cores = os.sched_getaffinity(0) if machine.LINUX else set()
        pin({core})  # inherited by the child
        command = [sys.executable, str(ROOT / script), "--config", str(folder / "config.json")]
        with self._log.open("wb") as log:
            environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
            )
        pin(own_cores)
        try:
            self._await_health()
        except BaseException:
            self.stop()
            raise

    def read(self) -> Usage:
        """Raises LoadError with the end of the server's log if it is no longer running."""
        if self._process.poll() is not None:
            raise LoadError(f"the server ended with code {self._process.returncode}:\n{self._end_of_log()}")
        pid = self._process.pid
        return Usage(
            at_s=time.monotonic(),
            cpu_s=machine.cpu_s(pid),
            core_busy_s=machine.core_busy_s(self._core),
            resident_bytes=machine.resident_bytes(pid),
            threads=machine.threads(pid),
            socket_drops=machine.socket_drops(machine.socket_inodes(pid)),
        )

    def figures(self) -> dict[str, Any]:
        """What it says of itself at `/metrics`."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            figures: dict[str, Any] = json.load(answer)
            return figures

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> list[str]:
        """All lines so far."""
        return self._log.read_text(errors="replace").splitlines()

    def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _await_health(self) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise LoadError(f"the server did not become healthy:\n{self._end_of_log()}")

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
