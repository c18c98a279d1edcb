"""Peers on loopback, and clients of aiortc for them: real ICE, DTLS and SRTP in one process."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiortc import RTCSessionDescription

from tests.support.publishing import hand_out
from tests.support.rtc_client import (
    PacketLog,
    PayloadTrack,
    gather_on_loopback,
    new_peer,
    record_packets,
    wait_until_connected,
)
from voice_streaming.media.opus import OpusPacket
from voice_streaming.rtc import Peers, ReceiverPeer, SenderPeer, rtp
from voice_streaming.rtc.peer import Peer
from voice_streaming.rtc.shared_socket import SharedSocket
from voice_streaming.settings.model import WebrtcSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack

PAYLOADS = [bytes([120]) + random.Random(5).randbytes(number % 90 + 1) for number in range(50)]
PACKET_S = 0.005
"""From one packet to the next: faster than real, so that a loss is soon seen."""


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    """Returns when the condition holds; AssertionError if it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.005)


class Client:
    """A browser's part, played by aiortc: RTP and RTCP are kept as they arrive."""

    def __init__(self) -> None:
        self.peer = new_peer()
        self.packets = PacketLog()
        self.rtcp: list[rtp.Rtcp] = []
        self.voice = PayloadTrack()
        self._timestamp = 0

    async def offer(self) -> str:
        self.peer.addTransceiver(self.voice, direction="sendonly")
        self._record_rtcp()
        gather_on_loopback(self.peer)
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def take_answer(self, text: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(text, "answer"))

    async def answer(self, offer: str) -> str:
        await self.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        for transceiver in self.peer.getTransceivers():
            record_packets(transceiver.receiver, self.packets)
        self._record_rtcp()
        gather_on_loopback(self.peer)
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self.peer.localDescription.sdp

    @property
    def dtls(self) -> Any:
        return self.peer.getTransceivers()[0].receiver.transport

    def say(self, payload: bytes) -> None:
        self.voice.put(payload, self._timestamp)
        self._timestamp += 960

    def send_raw(self, datagram: bytes) -> None:
        """From the very address that media comes from, without encryption."""
        pair = self.dtls.transport._connection._nominated[1]
        # asyncio's own sendto leaves empty datagrams out.
        number = pair.protocol.transport.get_extra_info("socket").fileno()
        with socket.fromfd(number, socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(datagram, pair.remote_addr)

    async def send_rtcp(self, datagram: bytes) -> None:
        await self.dtls._send_rtp(datagram)

    def goodbyes(self) -> list[int]:
        return [ssrc for compound in self.rtcp for ssrc in compound.byes]

    def _record_rtcp(self) -> None:
        async def record(datagram: bytes) -> None:
            parsed = rtp.parse_rtcp(datagram)
            assert parsed is not None
            self.rtcp.append(parsed)

        self.dtls._handle_rtcp_data = record


class Stage:
    """Peers on loopback and one track, with clients that come and go."""

    def __init__(self) -> None:
        self.relay = VoiceRelay()
        self.peers = Peers(WebrtcSettings(host_addresses=("127.0.0.1",)), self.relay)
        self.track = OpusTrack()
        self.gone: list[str] = []
        self._open: list[Any] = []
        self._sequence = 1_000

    @property
    def shared(self) -> SharedSocket:
        (one,) = self.peers.endpoint.sockets.open()
        return one

    def publish(self, payload: bytes) -> None:
        self._sequence += 1
        now_s = asyncio.get_running_loop().time()
        hand_out(self.track, OpusPacket(payload, self._sequence, self._sequence * 960, False, now_s))

    async def receiver(self) -> tuple[ReceiverPeer, Client]:
        peer, client = self.peers.receiver(self.track), Client()
        self._open += [peer, client.peer]
        peer.on_gone = self.gone.append
        await peer.accept(await client.answer(await peer.offer()))
        await wait_until_connected(client.peer)
        await until(lambda: peer.destination is not None, "the receiver has a destination")
        return peer, client

    async def sender(self) -> tuple[SenderPeer, Client]:
        peer, client = self.peers.sender(self.track), Client()
        self._open += [peer, client.peer]
        connected = asyncio.Event()
        peer.on_connected, peer.on_gone = connected.set, self.gone.append
        await client.take_answer(await peer.answer(await client.offer()))
        await wait_until_connected(client.peer)
        await asyncio.wait_for(connected.wait(), 10)
        return peer, client

    async def heard_sender(self) -> tuple[SenderPeer, Client]:
        """A sender whose first packet has come."""
        peer, client = await self.sender()
        client.say(b"voice")
        await until(lambda: peer.reception is not None, "the first packet")
        return peer, client

    def forget(self, peer: Peer) -> None:
        """The test closes it."""
        self._open.remove(peer)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self._open))
        self.peers.close()


@asynccontextmanager
async def on_stage() -> AsyncIterator[Stage]:
    one = Stage()
    try:
        yield one
    finally:
        await one.close()
