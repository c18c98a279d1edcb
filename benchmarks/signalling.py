"""A light peer's way through the server's signalling: one WebSocket, kept open beside the media."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from light_peer import Identity, LightPeer
from light_sdp import Remote

# Longer than any honest answer, on a machine that is busy.
_REPLY_TIMEOUT_S = 20.0


class RefusedError(Exception):
    """The server answered with an error, closed the socket, or said nothing."""


@dataclass
class Session:
    """A WebSocket, the peer that was negotiated over it, and the task that answers the server's pings."""

    socket: aiohttp.ClientWebSocketResponse
    peer: LightPeer
    asked_ns: int
    pings: asyncio.Task[None]
    resume_key: str = ""
    """Of a sender."""

    @property
    def ended(self) -> bool:
        return self.peer.closed or self.socket.closed

    async def close(self) -> None:
        self.peer.close()
        self.pings.cancel()
        await self.socket.close()


def open_client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def receive(
    client: aiohttp.ClientSession, url: str, identity: Identity, stream_id: str | None, **fields: Any
) -> Session:
    """Negotiate a receiver of that stream; `asked_ns` (CLOCK_REALTIME) is just before `start_receiving` left.

    `fields` go into it.
    """
    socket = await client.ws_connect(url, max_msg_size=0)
    try:
        await _await(socket, "available_streams")
        asked_ns = time.time_ns()
        await socket.send_json({"type": "start_receiving", "stream_id": stream_id, **fields})
        message = await _await(socket, "webrtc_offer")
        peer = LightPeer(identity, controlling=False)
        offer = Remote.from_sdp(message["offer"]["sdp"])
        peer.connect(offer)
        answer = {"type": "answer", "sdp": peer.local.answer_to(offer)}
        await socket.send_json({"type": "webrtc_answer", "answer": answer})
    except BaseException:
        await socket.close()
        raise
    return Session(socket, peer, asked_ns, asyncio.create_task(_answer_pings(socket)))


async def send(client: aiohttp.ClientSession, url: str, identity: Identity, name: str, **fields: Any) -> Session:
    """Negotiate a sender under that name; `find_stream` tells which id the server makes of it.

    `fields` go into `start_sending`.
    """
    socket = await client.ws_connect(url, max_msg_size=0)
    try:
        await socket.send_json({"type": "start_sending", "name": name, **fields})
        ready = await _await(socket, "sender_ready")
        peer = LightPeer(identity, controlling=True)
        await socket.send_json({"type": "webrtc_offer", "offer": {"type": "offer", "sdp": peer.local.offer()}})
        message = await _await(socket, "webrtc_answer")
        peer.connect(Remote.from_sdp(message["answer"]["sdp"]))
    except BaseException:
        await socket.close()
        raise
    pings = asyncio.create_task(_answer_pings(socket))
    return Session(socket, peer, time.time_ns(), pings, ready.get("resume", ""))


async def find_stream(client: aiohttp.ClientSession, url: str, name: str) -> str:
    """The id of the stream of that name, as soon as the server lists it. Raises RefusedError if it never does."""
    deadline_s = time.monotonic() + _REPLY_TIMEOUT_S
    async with client.ws_connect(url) as socket:
        listed = await _await(socket, "available_streams")
        while time.monotonic() < deadline_s:
            named = {detail.get("name"): detail["stream_id"] for detail in listed.get("details", [])}
            if name in named:
                return str(named[name])
            if name in listed["streams"]:
                return name
            await asyncio.sleep(0.05)
            await socket.send_json({"type": "get_available_streams"})
            listed = await _await(socket, "available_streams")
    raise RefusedError(f"no stream named {name} appeared within {_REPLY_TIMEOUT_S:.0f} s")


async def _await(socket: aiohttp.ClientWebSocketResponse, wanted: str) -> dict[str, Any]:
    """The next message of a wanted type; broadcasts in between are passed over."""
    async with asyncio.timeout(_REPLY_TIMEOUT_S):
        async for frame in socket:
            if frame.type != aiohttp.WSMsgType.TEXT:
                continue
            message: dict[str, Any] = json.loads(frame.data)
            if message["type"] == wanted:
                return message
            if message["type"] == "error":
                raise RefusedError(message["message"])
    raise RefusedError(f"the server closed the WebSocket before it sent {wanted}")


async def _answer_pings(socket: aiohttp.ClientWebSocketResponse) -> None:
    """aiohttp answers a ping only while somebody reads; what the server broadcasts is of no interest here."""
    async for _ in socket:
        pass
