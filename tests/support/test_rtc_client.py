"""The test clients, against the smallest server that speaks the protocol: it hands packets from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.support.rtc_client import (
    SAMPLES_PER_PACKET,
    PacketLog,
    PayloadTrack,
    gather_on_loopback,
    new_peer,
    record_packets,
    voice_receiver,
    voice_sender,
)
from tests.support.signalling import Message, SignallingError, signalling

# Any bytes will do: nothing on the way decodes them.
PAYLOADS = [bytes([120]) + number.to_bytes(2, "big") * (number % 40 + 1) for number in range(60)]


class OneStreamServer:
    """Stands in for the daemon: one sender, one receiver, and no answer to anything unexpected but `error`."""

    def __init__(self) -> None:
        self.from_sender = PacketLog()
        self.to_receiver = PayloadTrack()
        self.peers: list[RTCPeerConnection] = []

    async def session(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "available_streams", "streams": []})
        async for frame in socket:
            await socket.send_json(await self.reply(frame.json()))
        return socket

    async def reply(self, message: Message) -> Message:
        match message["type"]:
            case "start_sending":
                return {"type": "sender_ready", "connection_id": "one", "stream_id": "stream_one", "resume": "key"}
            case "webrtc_offer":
                peer = self.new_peer()
                await peer.setRemoteDescription(RTCSessionDescription(**message["offer"]))
                record_packets(peer.getTransceivers()[0].receiver, self.from_sender)
                gather_on_loopback(peer)
                await peer.setLocalDescription(await peer.createAnswer())
                return {"type": "webrtc_answer", "answer": {"sdp": peer.localDescription.sdp, "type": "answer"}}
            case "start_receiving":
                peer = self.new_peer()
                peer.addTransceiver(self.to_receiver, direction="sendonly")
                gather_on_loopback(peer)
                await peer.setLocalDescription(await peer.createOffer())
                return {"type": "webrtc_offer", "offer": {"sdp": peer.localDescription.sdp, "type": "offer"}}
            case "webrtc_answer":
                await self.peers[-1].setRemoteDescription(RTCSessionDescription(**message["answer"]))
                return {"type": "available_streams", "streams": ["one"]}
            case other:
                return {"type": "error", "code": "unknown_type", "message": other}

    def new_peer(self) -> RTCPeerConnection:
        self.peers.append(new_peer())
        return self.peers[-1]


@asynccontextmanager
async def one_stream_server() -> AsyncIterator[tuple[OneStreamServer, str]]:
    server = OneStreamServer()
    app = web.Application()
    app.router.add_get("/ws", server.session)
    async with TestServer(app) as http:
        try:
            yield server, str(http.make_url("/ws"))
        finally:
            await asyncio.gather(*(peer.close() for peer in server.peers))


async def test_payloads_arrive_byte_for_byte_with_their_pauses() -> None:
    async with one_stream_server() as (server, url), voice_sender(url) as sender, voice_receiver(url) as receiver:
        await sender.send([*PAYLOADS[:20], None, None, *PAYLOADS[20:]], interval_s=0.002)
        await server.from_sender.wait_for(len(PAYLOADS))
        first = server.from_sender[0]
        for packet in server.from_sender:
            server.to_receiver.put(packet.payload, packet.timestamp - first.timestamp & 0xFFFFFFFF)
        await receiver.packets.wait_for(len(PAYLOADS))

        assert sender.connection_id == "one"
        assert sender.sent == PAYLOADS
        assert receiver.packets.payloads() == PAYLOADS
        assert len({packet.ssrc for packet in receiver.packets}) == 1
        start = receiver.packets[0]
        assert [packet.sequence - start.sequence & 0xFFFF for packet in receiver.packets] == list(range(len(PAYLOADS)))
        ticks = [(packet.timestamp - start.timestamp & 0xFFFFFFFF) / SAMPLES_PER_PACKET for packet in receiver.packets]
        assert ticks == [*range(20), *range(22, len(PAYLOADS) + 2)]


async def test_candidates_are_on_loopback_only() -> None:
    async with one_stream_server() as (_, url), voice_sender(url) as sender, voice_receiver(url) as receiver:
        for sdp in (sender.peer.localDescription.sdp, receiver.peer.localDescription.sdp):
            candidates = [line for line in sdp.splitlines() if line.startswith("a=candidate")]
            assert candidates
            assert all(" 127.0.0.1 " in line for line in candidates), candidates


async def test_expect_keeps_other_messages_and_fails_on_an_error_message() -> None:
    async with one_stream_server() as (_, url), signalling(url) as client:
        await client.send("start_sending")
        assert (await client.expect("sender_ready"))["connection_id"] == "one"
        assert (await client.expect("available_streams"))["streams"] == []
        await client.send("nonsense")
        with pytest.raises(SignallingError, match="nonsense"):
            await client.expect("sender_ready")
        assert (await client.expect("error"))["code"] == "unknown_type"
        with pytest.raises(SignallingError, match=r"within 0\.05 s"):
            await client.expect("sender_ready", timeout_s=0.05)
