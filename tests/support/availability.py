"""Programs that a test needs: a missing one skips the test with a reason, but fails it where nothing may be missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip the running test, or fail it in continuous integration (CI=true), where a skip would hide a defect."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed when CI=true: {reason}")
    pytest.skip(reason)


def require_program(*names: str) -> Path:
    """Return the path of the first of these programs (names for the same thing) that is installed."""
    for name in names:
        if path := shutil.which(name):
            return Path(path)
    unavailable(f"{names[0]} is not installed (scripts/test.sh installs it where it can)")


def require_linux(what: str) -> None:
    """Say that something works on Linux only."""
    if sys.platform != "linux":
        unavailable(f"{what} needs Linux")
