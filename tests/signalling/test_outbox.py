"""The outbox, on real WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from voice_streaming.signalling.outbox import Outbox


class Session:
    """Both ends of one WebSocket: the server's outbox and the client."""

    def __init__(self, outbox: Outbox, writer: asyncio.Task[None], client: aiohttp.ClientWebSocketResponse) -> None:
        self.outbox, self.writer, self.client = outbox, writer, client

    async def texts(self, count: int) -> list[str]:
        return [await self.client.receive_str(timeout=5) for _ in range(count)]


@asynccontextmanager
async def session(limit: int = 1000, limit_bytes: int = 2**30) -> AsyncIterator[Session]:
    made: asyncio.Future[tuple[Outbox, asyncio.Task[None]]] = asyncio.get_running_loop().create_future()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        outbox = Outbox(ws, request.transport, limit, limit_bytes)
        writer = asyncio.create_task(outbox.run())
        made.set_result((outbox, writer))
        async for _ in ws:
            pass
        outbox.end()
        return ws

    application = web.Application()
    application.router.add_get("/", serve)
    async with TestClient(TestServer(application)) as http, http.ws_connect("/") as client:
        outbox, writer = await made
        try:
            yield Session(outbox, writer, client)
        finally:
            outbox.end()
            await asyncio.wait_for(writer, 5)


async def test_messages_arrive_in_order() -> None:
    async with session() as both:
        expected = [f"message {number}" for number in range(100)]
        for number, text in enumerate(expected):
            both.outbox.send(text)
            if number % 7 == 0:
                await asyncio.sleep(0)
        assert await both.texts(100) == expected
        assert not both.outbox.overflowed


async def test_of_a_topic_only_the_newest_unsent_message_is_written() -> None:
    async with session() as both:
        for level in range(50):
            both.outbox.send_latest("kitchen", f"kitchen {level}")
            both.outbox.send_latest("garage", f"garage {level}")
        both.outbox.send("first")
        assert await both.texts(3) == ["first", "kitchen 49", "garage 49"]
        both.outbox.send_latest("kitchen", "kitchen again")
        assert await both.texts(1) == ["kitchen again"]


async def test_close_writes_what_is_queued_then_closes_with_the_code() -> None:
    async with session() as both:
        for number in range(20):
            both.outbox.send(str(number))
        closing = asyncio.create_task(both.outbox.close(1001, "server stopping"))
        assert await both.texts(20) == [str(number) for number in range(20)]
        frame = await both.client.receive(timeout=5)
        assert (frame.type, frame.data, frame.extra) == (WSMsgType.CLOSE, 1001, "server stopping")
        await asyncio.wait_for(closing, 5)
        both.outbox.send("too late")
        both.outbox.send_latest("kitchen", "too late")
        assert both.writer.done()


async def test_end_writes_what_is_queued_and_ends_the_writer() -> None:
    async with session() as both:
        both.outbox.send("last words")
        both.outbox.send_latest("kitchen", "last level")
        both.outbox.end()
        await asyncio.wait_for(both.writer, 5)
        assert await both.texts(2) == ["last words", "last level"]


async def test_a_client_that_does_not_read_is_disconnected_and_the_queue_is_bounded() -> None:
    async with session(limit=8) as both:
        # The client reads nothing: megabytes fill the sockets' buffers first, then the queue.
        both.client._conn.protocol.pause_reading()  # type: ignore[union-attr]
        text = "x" * 500_000
        sent = 0
        while not both.outbox.overflowed and sent < 2_000:
            both.outbox.send(text)
            sent += 1
            await asyncio.sleep(0)
        assert both.outbox.overflowed
        # It ends by itself, though nothing was written: the transport is gone.
        await asyncio.wait_for(both.writer, 5)
        both.outbox.send("more")
        both.client._conn.protocol.resume_reading()  # type: ignore[union-attr]


async def test_a_burst_over_the_limit_overflows_at_once() -> None:
    async with session(limit=8) as both:
        for number in range(8):
            both.outbox.send(str(number))
        assert not both.outbox.overflowed
        both.outbox.send("one too many")
        assert both.outbox.overflowed


async def test_a_client_that_goes_away_ends_the_writer(caplog: pytest.LogCaptureFixture) -> None:
    async with session() as both:
        transport = both.client._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()
        for _ in range(200):
            both.outbox.send("x" * 10_000)
            both.outbox.send_latest("kitchen", "level")
            if both.writer.done():
                break
            await asyncio.sleep(0.01)
        await asyncio.wait_for(both.writer, 5)
        await asyncio.wait_for(both.outbox.close(1000, ""), 5)


async def test_bytes_have_a_limit_too_and_what_was_written_counts_no_more() -> None:
    async with session(limit_bytes=1000) as both:
        for number in range(5):
            both.outbox.send("ä" * 450)
            assert len((await both.texts(1))[0]) == 450, number
        both.outbox.send("x" * 500)
        assert not both.outbox.overflowed
        both.outbox.send("ä" * 251)
        assert both.outbox.overflowed
