"""One server, and a few who talk and listen there."""

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import signalling
from light_peer import Identity, LightPeer
from light_sdp import OPUS_PAYLOAD_TYPE
from load_sender import connect, take_all
from marked_opus import PACKET_S, SAMPLES_PER_PACKET
from player import Player
from server_process import ServerProcess

_FILLING = bytes([120]) + bytes(115)


class Talker:
    """A light peer that sends a packet every 20 ms while it talks."""

    def __init__(self, session: signalling.Session) -> None:
        self.session = session
        self._number = random.randrange(1 << 15)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._speak(self.session.peer))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        self.stop()
        asyncio.get_running_loop().remove_reader(self.session.peer.socket)
        await self.session.close()

    async def _speak(self, peer: LightPeer) -> None:
        due_s = time.monotonic()
        while True:
            timestamp = self._number * SAMPLES_PER_PACKET & 0xFFFF_FFFF
            header = struct.pack("!BBHII", 0x80, OPUS_PAYLOAD_TYPE, self._number & 0xFFFF, timestamp, peer.local.ssrc)
            peer.send(peer.protect(header + _FILLING + struct.pack("!I", self._number)))
            take_all(peer)
            peer.tick(time.monotonic())
            self._number, due_s = self._number + 1, due_s + PACKET_S
            await asyncio.sleep(due_s - time.monotonic())


class House:
    """One server, and those who talk and listen there."""

    def __init__(self, http: aiohttp.ClientSession, server: ServerProcess) -> None:
        self.server = server
        self._http = http
        self._url = f"{server.url}/ws"
        self._identity = Identity()

    @contextlib.asynccontextmanager
    async def talker(self, name: str, **fields: Any) -> AsyncIterator[Talker]:
        """`fields` go into `start_sending`."""
        session = await signalling.send(self._http, self._url, self._identity, name, **fields)
        await connect(session.peer)
        talker = Talker(session)
        try:
            yield talker
        finally:
            await talker.close()

    @contextlib.asynccontextmanager
    async def listener(self, stream_id: str | None, **fields: Any) -> AsyncIterator[Player]:
        """`fields` go into `start_receiving`."""
        session = await signalling.receive(self._http, self._url, self._identity, stream_id, **fields)
        player = Player(session.peer)
        try:
            deadline_s = time.monotonic() + 10
            while not session.peer.ready and time.monotonic() < deadline_s:
                await asyncio.sleep(0.005)
                session.peer.tick(time.monotonic())
            yield player
        finally:
            player.close()
            await session.close()

    @contextlib.asynccontextmanager
    async def watcher(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self._http.ws_connect(self._url) as socket:
            yield socket
