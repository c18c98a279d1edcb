"""A Redis for a benchmark, on loopback, which keeps nothing."""

import shutil
import subprocess
import tempfile
import time

from load_process import LoadError
from server_process import free_port

_START_TIMEOUT_S = 10.0


class RedisProcess:
    """At `url`; may be killed and started again, and is empty then. The caller must `stop` it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise LoadError("redis-server is not installed: scripts/test.sh installs it where it can")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder.name]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while self.ask("ping") != "PONG":
            if time.monotonic() > deadline_s:
                raise LoadError("Redis does not answer")
            time.sleep(0.02)

    def ask(self, *command: str) -> str:
        """What `redis-cli` prints."""
        asked = ["redis-cli", "-p", str(self.port), *command]
        return subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10).stdout.strip()

    def information(self, section: str) -> dict[str, str]:
        lines = (line.partition(":") for line in self.ask("info", section).splitlines())
        return {name: value for name, _, value in lines}

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        self._folder.cleanup()
