"""A certificate authority that a browser trusts, in a database of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.availability import require_program


def trust_authority(database: Path, authority: Path) -> None:
    """Make an NSS database in that folder, as a Firefox profile or a Chromium user's `.pki/nssdb` is one, that trusts
    the authority (a PEM file) for websites, as a user's own import does."""
    certutil = require_program("certutil")
    database.mkdir(parents=True, exist_ok=True)
    where = ["-d", f"sql:{database}"]
    for command in (["-N", "--empty-password"], ["-A", "-n", "the test's authority", "-t", "C,,", "-i", authority]):
        subprocess.run([certutil, *command, *where], check=True, capture_output=True, timeout=30)
