"""Between a client and a Redis: slow, or silent to subscriptions, as after a cut that nobody is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK_BYTES = 2**16


class RedisProxy:
    """At `url`. `delay_s` goes onto each answer; subscriptions hear nothing while `is_deaf`."""

    def __init__(self, upstream_port: int) -> None:
        self.delay_s = 0.0
        self.is_deaf = False
        self.url = ""
        self._upstream_port = upstream_port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        subscribed = asyncio.Event()
        tasks = {
            asyncio.create_task(self._ask(reader, up_writer, subscribed)),
            asyncio.create_task(self._answer(up_reader, writer, subscribed)),
        }
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._tasks -= tasks
            writer.close()
            up_writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, subscribed: asyncio.Event) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if b"SUBSCRIBE" in chunk:
                subscribed.set()
            writer.write(chunk)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(self.delay_s)
            if not (self.is_deaf and subscribed.is_set()):
                writer.write(chunk)


@asynccontextmanager
async def redis_proxy(upstream_port: int) -> AsyncIterator[RedisProxy]:
    proxy = RedisProxy(upstream_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
