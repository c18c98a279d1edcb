"""HTTP as bytes on a socket, for what a client library would hide."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class RawAnswer:
    """An answer whose head has been read. `headers` has lower-case names."""

    status_line: str
    headers: dict[str, str]
    header_lines: list[str]
    reader: asyncio.StreamReader

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])

    async def body(self, *, timeout_s: float = 5) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(timeout_s):
            return await self.reader.read()

    async def some(self, length: int, *, timeout_s: float = 10) -> bytes:
        """Exactly that many bytes."""
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(length)

    async def during(self, seconds: float) -> bytes:
        """What comes during that time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        received = b""
        while (left_s := end_s - loop.time()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    piece = await self.reader.read(65_536)
            except TimeoutError:
                break
            if not piece:
                break
            received += piece
        return received

    @asynccontextmanager
    async def being_read(self) -> AsyncIterator[bytearray]:
        """What comes while the block runs, and grows meanwhile."""
        received = bytearray()

        async def read() -> None:
            while piece := await self.reader.read(65_536):
                received.extend(piece)

        reading = asyncio.create_task(read())
        try:
            yield received
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def raw_request(
    port: int,
    target: str,
    *lines: str,
    method: str = "GET",
    version: str = "1.1",
    receive_buffer: int = 0,
    host: str = "127.0.0.1",
) -> AsyncIterator[RawAnswer]:
    """Sends a request with these header lines on a connection of its own, and reads the head of the answer."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    limit = receive_buffer or 2**16
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    try:
        head = [f"{method} {target} HTTP/{version}", f"Host: {host}", *lines, "", ""]
        writer.write("\r\n".join(head).encode())
        yield await read_head(reader)
    finally:
        writer.close()


async def read_head(reader: asyncio.StreamReader) -> RawAnswer:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return RawAnswer(status_line, headers, lines, reader)
