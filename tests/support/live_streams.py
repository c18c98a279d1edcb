"""Streams of a running server: how they begin, and what it tells of them."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

from tests.support.rtc_client import VoiceSender
from tests.support.server import RunningServer


def payloads(count: int, size: int = 60) -> list[bytes]:
    """Opus packets as far as a relay can tell: unlike each other, so that none can be taken for another."""
    return [os.urandom(size) for _ in range(count)]


async def go_live(server: RunningServer, sender: VoiceSender) -> str:
    """Sends a first packet, and returns the stream's id once it is announced."""
    await sender.send(payloads(1))
    return str((await sender.signalling.expect("stream_available"))["stream_id"])


async def get_json(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url, headers={"Accept": "application/json"}) as response:
        return await response.json()


async def states(server: RunningServer) -> list[str]:
    return [details["state"] for details in (await get_json(server.url("/stream/status")))["details"]]
