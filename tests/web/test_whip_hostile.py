"""Many sessions that are opened and left, and floods of fragments: a voice goes on, and nothing is left of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.descriptions import browser_sdp
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.stage import PAYLOADS
from tests.support.whip_client import FRAGMENT, WhipClient, whip_client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SESSIONS = 1_000
"""`python benchmarks/whip.py --sessions 10000` opens more."""
REQUESTS = 2_000
AT_ONCE = 40


async def get_json(server: RunningServer, path: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(server.url(path)) as response:
        answer: dict[str, Any] = await response.json()
        return answer


@asynccontextmanager
async def a_voice(server: RunningServer) -> AsyncIterator[None]:
    """It is sent while the block runs, and every packet of it arrives, in order."""

    async def talk(sender: VoiceSender) -> None:
        while not over.is_set():
            await sender.send(PAYLOADS)

    over = asyncio.Event()
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await sender.send(PAYLOADS[:1])
        await sender.signalling.expect("stream_available")
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            before = len(sender.sent)
            talking = asyncio.create_task(talk(sender))
            yield
            over.set()
            await talking
            await receiver.packets.wait_for(len(sender.sent) - before)
            assert receiver.packets.payloads() == sender.sent[before:]
            assert longest_gap_s(receiver) < 1.0


def longest_gap_s(receiver: VoiceReceiver) -> float:
    """The longest time without a packet."""
    times = [packet.arrived_s for packet in receiver.packets]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


async def repeat(count: int, work: Callable[[int], Awaitable[int]]) -> Counter[int]:
    """What is answered, AT_ONCE at a time."""
    answered: Counter[int] = Counter()
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            answered[await work(number)] += 1

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return answered


async def test_sessions_that_are_opened_and_left_cost_no_packet_and_leave_nothing() -> None:
    publish, play = browser_sdp("chromium_audio"), browser_sdp("chromium_recvonly")
    config = {"webrtc": {"connection_timeout": 3.0}, "limits": {"connections_per_address": 1000}}
    async with running_server(config) as server:
        before = await get_json(server, "/metrics")
        async with a_voice(server), whip_client(server.url("/")) as web:

            async def open_and_leave(number: int) -> int:
                path, offer = ("/whep/kitchen", play) if number % 2 else (f"/whip/hall{number % 100}", publish)
                # Some find a name just as it ends, or one limit or the other.
                while (status := (await web.post(path, offer)).status) in (409, 429, 503):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                return status

            assert await repeat(SESSIONS, open_and_leave) == {201: SESSIONS}
        await until_alone(server)
        # The socket for media has been opened since; some tasks are still closing connections.
        at_most = {"tasks": before["tasks"] + 2, "open_files": before["open_files"] + 2}
        after = await until_at_most(server, at_most)
        assert (after["active_streams"], after["receivers"], after["failures"]) == (0, 0, 0)


async def until_at_most(server: RunningServer, at_most: dict[str, int]) -> dict[str, Any]:
    """The figures, once these are no more than that."""
    deadline_s = time.monotonic() + 20
    while True:
        figures = await get_json(server, "/metrics")
        left = {name: figures[name] for name, most in at_most.items() if figures[name] > most}
        if not left:
            return figures
        assert time.monotonic() < deadline_s, left
        await asyncio.sleep(0.1)


async def test_a_flood_of_fragments_costs_no_packet() -> None:
    async with running_server() as server, whip_client(server.url("/")) as web, a_voice(server):
        created = await web.post("/whip/hall", browser_sdp("chromium_audio"))
        assert created.status == 201

        async def patch(number: int) -> int:
            return await flood(web, created.location, created.headers["ETag"], number)

        answered = await repeat(REQUESTS, patch)
        # The candidates of a session have a limit; a restart counts as a negotiation, and makes the tag another.
        assert set(answered) <= {200, 204, 412, 429, 503}
        assert answered[412]
        assert (await web.ask("DELETE", created.location)).status == 200


async def flood(web: WhipClient, location: str, etag: str, number: int) -> int:
    if number % 20 == 19:
        restart = f"a=ice-ufrag:u{number}\r\na=ice-pwd:a-password-of-22-letters-at-least\r\n"
        return (await web.ask("PATCH", location, restart, FRAGMENT | {"If-Match": "*"})).status
    candidate = f"a=candidate:{number} 1 udp 1 127.0.0.1 {number % 60_000 + 1} typ host\r\n"
    return (await web.ask("PATCH", location, candidate * 3, FRAGMENT | {"If-Match": etag})).status


async def until_alone(server: RunningServer) -> None:
    deadline_s = time.monotonic() + 20
    while (left := (await get_json(server, "/health"))["connected_clients"]) > 0:
        assert time.monotonic() < deadline_s, f"{left} are left"
        await asyncio.sleep(0.05)
