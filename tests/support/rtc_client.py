"""WebRTC clients of the daemon that know every packet: what exactly was sent, what exactly arrived.

The only test module that touches private names of aiortc and aioice; each use says why. They were read in aiortc 1.16
and aioice 0.13.
"""

from __future__ import annotations

import asyncio
import fractions
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import aioice
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket

from tests.support.signalling import Signalling, signalling

# Opus in RTP always counts at 48 kHz (RFC 7587 section 4.1), 20 ms packets are what browsers send.
CLOCK_RATE_HZ = 48_000
PACKET_S = 0.02
SAMPLES_PER_PACKET = 960
LOOPBACK = "127.0.0.1"
OpusPacket: TypeAlias = "av.Packet[Any]"


@dataclass(frozen=True, slots=True)
class ReceivedPacket:
    """An RTP packet as it came off the wire, after SRTP; `arrived_s` is on time.monotonic's clock."""

    ssrc: int
    sequence: int
    timestamp: int
    marker: bool
    payload_type: int
    payload: bytes
    arrived_s: float


class PacketLog(list[ReceivedPacket]):
    """Packets in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def record(self, packet: ReceivedPacket) -> None:
        self.append(packet)
        self._grown.set()

    def payloads(self) -> list[bytes]:
        return [packet.payload for packet in self]

    async def wait_for(self, count: int, *, timeout_s: float = 10) -> None:
        """Return when `count` packets are there; AssertionError if they do not come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self) < count:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self)} packets within {timeout_s} s, not {count}") from None


class PayloadTrack(MediaStreamTrack):
    """Audio whose Opus payloads a test hands in one by one; aiortc sends each as it is, in one RTP packet."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._packets: asyncio.Queue[OpusPacket | None] = asyncio.Queue()

    def put(self, payload: bytes, timestamp: int) -> None:
        """Send a payload at once; `timestamp` counts samples at 48 kHz from the first packet's."""
        packet: OpusPacket = av.Packet(payload)
        packet.pts = timestamp
        packet.time_base = fractions.Fraction(1, CLOCK_RATE_HZ)
        self._packets.put_nowait(packet)

    def end(self) -> None:
        """Send nothing after what was put so far."""
        self._packets.put_nowait(None)

    async def recv(self) -> OpusPacket:
        packet = await self._packets.get()
        if packet is None:
            raise MediaStreamError
        return packet


def new_peer() -> RTCPeerConnection:
    """A peer connection that asks no STUN server (aiortc's default names a public one)."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def gather_on_loopback(peer: RTCPeerConnection, address: str = LOOPBACK) -> None:
    """Let a peer connection have candidates on 127.0.0.1, or another `address`, only.

    To be called just before `setLocalDescription`.

    aioice offers every address but the loopback ones and has no setting for it.
    """
    for transceiver in peer.getTransceivers():
        connection: Any = transceiver.sender.transport.transport._connection
        gather = partial(type(connection).get_component_candidates, connection)

        async def gather_there(component: int, addresses: list[str], gather: Any = gather) -> list[aioice.Candidate]:
            return cast(list[aioice.Candidate], await gather(component, [address]))

        connection.get_component_candidates = gather_there


def record_packets(receiver: RTCRtpReceiver, log: PacketLog) -> None:
    """Put every RTP packet of `receiver` into `log`, instead of into aiortc's jitter buffer and decoder.

    The public way, the track, delivers decoded samples only.
    """

    async def record(packet: RtpPacket, arrival_time_ms: int) -> None:
        log.record(
            ReceivedPacket(
                ssrc=packet.ssrc,
                sequence=packet.sequence_number,
                timestamp=packet.timestamp,
                marker=bool(packet.marker),
                payload_type=packet.payload_type,
                payload=packet.payload,
                arrived_s=time.monotonic(),
            )
        )

    receiver._handle_rtp_packet = record  # type: ignore[method-assign]


async def wait_until_connected(peer: RTCPeerConnection, *, timeout_s: float = 10) -> None:
    """Return when ICE and DTLS are done; AssertionError if they fail or take too long."""
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    try:
        async with asyncio.timeout(timeout_s):
            while peer.connectionState not in ("connected", "failed", "closed"):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        pass
    assert peer.connectionState == "connected", f"the peer connection is {peer.connectionState}"


class VoiceSender:
    """Publishes given Opus payloads, byte for byte. May start again after `stop`, on the same socket."""

    def __init__(self, client: Signalling, address: str = LOOPBACK) -> None:
        self.signalling = client
        self.address = address
        self.connection_id = ""
        self.resume_key = ""
        self.sent: list[bytes] = []
        self.answer_sdp = ""
        self.peer = new_peer()
        self._track = PayloadTrack()
        self._timestamp = 0

    async def start(self, **fields: Any) -> None:
        """Negotiate up to an open DTLS transport; `fields` (a name) go into `start_sending`. Sends no packet yet."""
        await self.connect(await self.offer(**fields))

    async def offer(self, **fields: Any) -> dict[str, str]:
        """The first half of `start`: the server's answer, of which nothing is made yet."""
        if self.peer.connectionState == "closed":
            self.replace_peer()
        await self.signalling.send("start_sending", **fields)
        ready = await self.signalling.expect("sender_ready")
        self.connection_id, self.stream_id = ready["connection_id"], ready["stream_id"]
        self.resume_key = ready["resume"]
        return await self.describe()

    def replace_peer(self) -> None:
        """Go on with a new peer connection; closing the former one is left to the caller, who may have kept it."""
        self.peer, self._track = new_peer(), PayloadTrack()

    async def describe(self) -> dict[str, str]:
        """Offer, for the first time or once more; the server's answer, of which nothing is made yet."""
        if not self.peer.getTransceivers():
            self.peer.addTransceiver(self._track, direction="sendonly")
        offer = await self.peer.createOffer()
        gather_on_loopback(self.peer, self.address)
        await self.peer.setLocalDescription(offer)
        await self.signalling.send("webrtc_offer", offer=_as_json(self.peer.localDescription))
        return dict((await self.signalling.expect("webrtc_answer"))["answer"])

    async def renegotiate(self) -> None:
        """Offer the connection that is there once more, and take the answer."""
        answer = await self.describe()
        await self.peer.setRemoteDescription(RTCSessionDescription(**answer))

    async def connect(self, answer: dict[str, str]) -> None:
        """The second half."""
        self.answer_sdp = answer["sdp"]
        await self.peer.setRemoteDescription(RTCSessionDescription(**answer))
        await wait_until_connected(self.peer)

    async def send(self, payloads: Iterable[bytes | None], *, interval_s: float = PACKET_S) -> None:
        """Send one payload per interval, 20 ms of timestamp each; None lets an interval pass without a packet (DTX)."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for number, payload in enumerate(payloads, start=1):
            if payload is not None:
                self._track.put(payload, self._timestamp)
                self.sent.append(payload)
            self._timestamp += SAMPLES_PER_PACKET
            await asyncio.sleep(begun_s + number * interval_s - loop.time())

    async def stop(self) -> None:
        """End the stream and keep the socket."""
        await self.signalling.send("stop_stream")
        await self.peer.close()


class VoiceReceiver:
    """Receives a stream and records its RTP packets in `packets`. May start again, for another stream."""

    def __init__(self, client: Signalling, address: str = LOOPBACK) -> None:
        self.signalling = client
        self.address = address
        self.packets = PacketLog()
        self.offer_sdp = ""
        self.peer = new_peer()

    async def start(self, stream_id: str | None = None, **fields: Any) -> None:
        """Ask for a stream, None for the newest, and negotiate up to an open DTLS transport; starts an empty log."""
        await self.signalling.send("start_receiving", stream_id=stream_id, **fields)
        await self.answer((await self.signalling.expect("webrtc_offer"))["offer"])
        await wait_until_connected(self.peer)

    async def answer(self, offer: dict[str, str]) -> None:
        """Answer an offer with a new peer connection, closing the one before, without waiting for the connection."""
        await self.peer.close()
        self.peer, self.packets = new_peer(), PacketLog()
        self.offer_sdp = offer["sdp"]
        await self.peer.setRemoteDescription(RTCSessionDescription(**offer))
        for transceiver in self.peer.getTransceivers():
            record_packets(transceiver.receiver, self.packets)
        answer = await self.peer.createAnswer()
        gather_on_loopback(self.peer, self.address)
        await self.peer.setLocalDescription(answer)
        await self.signalling.send("webrtc_answer", answer=_as_json(self.peer.localDescription))

    async def stop(self) -> None:
        """Stop receiving and keep the socket."""
        await self.signalling.send("stop_stream")
        await self.peer.close()


@asynccontextmanager
async def voice_sender(ws_url: str, *, address: str = LOOPBACK, **fields: Any) -> AsyncIterator[VoiceSender]:
    """A started sender on a socket of its own, while the block runs; `fields` (a name) go into `start_sending`."""
    async with signalling(ws_url) as client:
        sender = VoiceSender(client, address)
        try:
            await sender.start(**fields)
            yield sender
        finally:
            await sender.peer.close()


@asynccontextmanager
async def voice_receiver(
    ws_url: str, stream_id: str | None = None, *, address: str = LOOPBACK, **fields: Any
) -> AsyncIterator[VoiceReceiver]:
    """A started receiver on a socket of its own, while the block runs; `fields` go into `start_receiving`."""
    async with signalling(ws_url) as client:
        receiver = VoiceReceiver(client, address)
        try:
            await receiver.start(stream_id, **fields)
            yield receiver
        finally:
            await receiver.peer.close()


def _as_json(description: RTCSessionDescription) -> dict[str, str]:
    return {"sdp": description.sdp, "type": description.type}
