"""A TLS client, and the warnings of the side that serves it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import pytest

from voice_streaming.network.tls import Certificates


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


async def served_certificate(certificates: Certificates, *, trusting: bytes, name: str) -> dict[str, Any]:
    """What a client that trusts this authority gets for that name, over a real socket on loopback."""
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=certificates.context())
    async with server:
        return await handshake(server.sockets[0].getsockname()[1], trusting, name)


async def handshake(port: int, trusting: bytes, name: str) -> dict[str, Any]:
    context = ssl.create_default_context(cadata=trusting.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's own default from 3.13 on.
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    assert isinstance(certificate, dict)
    return certificate


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
