"""What was written and is not taken yet, in transports and the kernel."""

from __future__ import annotations

import asyncio
import socket

from voice_streaming.process.transports import below_tls, unsent_bytes


async def connected() -> tuple[asyncio.StreamWriter, socket.socket]:
    """Our side and the other side's socket, which takes little and only when it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.socket()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        other.connect(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8000)
    _, writer = await asyncio.open_connection(sock=ours)
    return writer, other


async def test_what_the_kernel_holds_is_counted() -> None:
    writer, other = await connected()
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    assert below_tls(transport) is transport
    assert unsent_bytes(transport) == 0
    transport.write(bytes(100_000))
    kept = unsent_bytes(transport)
    assert kept > transport.get_write_buffer_size() > 0
    other.setblocking(False)
    taken = 0
    async with asyncio.timeout(10):
        while taken < 100_000:
            taken += len(await asyncio.get_running_loop().sock_recv(other, 65_536))
        while unsent_bytes(transport):  # noqa: ASYNC110 - the last acknowledgement has no event
            await asyncio.sleep(0.01)
    transport.abort()
    await asyncio.sleep(0)
    assert unsent_bytes(transport) == 0
    other.close()
