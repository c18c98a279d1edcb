"""The test command, where a test goes wrong in a way that could take the whole run with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.server import REPOSITORY

NEVER_ENDS = """
import asyncio


async def test_that_never_ends():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


def test_after_it():
    pass
"""


def test_a_test_that_cannot_be_ended_fails_and_the_next_ones_run(tmp_path: Path) -> None:
    file = tmp_path / "test_endless.py"
    file.write_text(NEVER_ENDS)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-o", "asyncio_mode=auto"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "--timeout", "2", *options, str(file)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "1 failed, 1 passed, 1 error" in run.stdout, run.stdout + run.stderr
