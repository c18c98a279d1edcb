from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
GIVE_THIRTY = "from tests.support.ports import free_port; print(*(free_port() for _ in range(30)))"


def test_processes_at_the_same_time_are_given_different_ports() -> None:
    ours = {free_port() for _ in range(200)}
    others = subprocess.run(
        [sys.executable, "-c", GIVE_THIRTY], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    theirs = {int(port) for port in others.stdout.split()}
    assert len(ours) == 200
    assert len(theirs) == 30
    assert not ours & theirs
