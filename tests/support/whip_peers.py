"""Publishers and players by WHIP and WHEP: aiortc, with all of its candidates in the offer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.support.rtc_client import gather_on_loopback, record_packets
from tests.support.server import RunningServer
from tests.support.stage import Client
from tests.support.whip_client import Answer, WhipClient

RESUME = "Stream-Resume-Key"


async def receive_offer(client: Client) -> str:
    """The offer of a player: to receive only."""
    client.peer.addTransceiver("audio", direction="recvonly")
    gather_on_loopback(client.peer)
    await client.peer.setLocalDescription(await client.peer.createOffer())
    for transceiver in client.peer.getTransceivers():
        record_packets(transceiver.receiver, client.packets)
    return str(client.peer.localDescription.sdp)


@asynccontextmanager
async def publishing(
    web: WhipClient, path: str = "/whip/kitchen", **headers: str
) -> AsyncIterator[tuple[Client, Answer]]:
    client = Client()
    try:
        answer = await web.post(path, await client.offer(), **headers)
        assert answer.status == 201, answer.text
        await client.take_answer(answer.text)
        yield client, answer
    finally:
        await client.peer.close()


@asynccontextmanager
async def playing(web: WhipClient, path: str = "/whep/kitchen", **headers: str) -> AsyncIterator[tuple[Client, Answer]]:
    client = Client()
    try:
        answer = await web.post(path, await receive_offer(client), **headers)
        assert answer.status == 201, answer.text
        await client.take_answer(answer.text)
        yield client, answer
    finally:
        await client.peer.close()


async def receivers_become(server: RunningServer, count: int, token: str = "") -> None:
    """Waits until the server sends to so many receivers: a player is connected a little earlier."""
    asked = {"token": token} if token else {}
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        while True:
            async with http.get(server.url("/metrics"), params=asked) as response:
                if (await response.json())["receivers"] == count:
                    return
            await asyncio.sleep(0.02)
