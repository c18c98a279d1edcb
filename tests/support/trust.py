"""The server's certificate authority, and how a browser comes to trust it, in a database of its own."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import aiohttp

from tests.support.availability import require_program
from tests.support.server import RunningServer
from voice_streaming.network.tls import CA_CONTENT_TYPE


async def download_authority(server: RunningServer, path: Path) -> None:
    """Over plain HTTP, as nothing is trusted yet."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}/ca.crt") as answer:
        assert answer.status == 200
        assert answer.content_type == CA_CONTENT_TYPE
        await asyncio.to_thread(path.write_bytes, await answer.read())


def trust_authority(database: Path, authority: Path) -> None:
    """Make an NSS database in that folder, as a Firefox profile or a Chromium user's `.pki/nssdb` is one, that trusts
    the authority (a PEM file) for websites, as a user's own import does."""
    certutil = require_program("certutil")
    database.mkdir(parents=True, exist_ok=True)
    where = ["-d", f"sql:{database}"]
    for command in (["-N", "--empty-password"], ["-A", "-n", "the test's authority", "-t", "C,,", "-i", authority]):
        subprocess.run([certutil, *command, *where], check=True, capture_output=True, timeout=30)
