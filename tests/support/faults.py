"""What goes wrong between a client and the server: held back and forged packets, deaf clients, cut connections.

Touches private names of aiortc and aioice (read in aiortc 1.16 and aioice 0.13), as `rtc_client` does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

from aiortc import RTCPeerConnection

from tests.support.rtc_client import VoiceSender
from tests.support.signalling import Signalling
from voice_streaming.rtc.rtp import HEADER, is_rtcp
from voice_streaming.streams.timeline import unwrap


class SenderWire:
    """Between a started sender and the network: its media waits here until the test passes it on."""

    def __init__(self, sender: VoiceSender) -> None:
        self._sender = sender
        transport: Any = sender.peer.getSenders()[0].transport
        self._srtp = transport._tx_srtp
        self._send = transport.transport._send
        transport.transport._send = self._hold
        self._held: list[bytes] = []
        self._arrived = asyncio.Condition()
        self._header = (0, 0, 0, 0, 0)

    async def hold(self, payloads: Sequence[bytes]) -> list[bytes]:
        """Lets the sender send the payloads, and returns its SRTP datagrams instead, in order."""
        self._held.clear()
        await self._sender.send(payloads, interval_s=0)
        async with asyncio.timeout(10), self._arrived:
            while len(self._held) < len(payloads):
                await self._arrived.wait()
        self._header = HEADER.unpack_from(self._held[-1])
        return list(self._held)

    async def pass_on(self, datagram: bytes) -> None:
        """Sends a datagram, whatever it is, from the sender's address."""
        await self._send(datagram)

    def forge(
        self, body: bytes, *, first_byte: int = 0x80, payload_type: int | None = None, protect: bool = True
    ) -> bytes:
        """A packet that seems to follow what was held last: `body` is all behind the fixed header.

        It is protected with the sender's own keys, unless it is not to be.
        """
        _, second, sequence, timestamp, ssrc = self._header
        self._header = (0x80, second, (sequence + 1) & 0xFFFF, (timestamp + 960) & 0xFFFFFFFF, ssrc)
        second = second & 0x7F if payload_type is None else payload_type
        packet = HEADER.pack(first_byte, second, *self._header[2:]) + body
        return bytes(self._srtp.protect(packet)) if protect else packet

    async def _hold(self, datagram: bytes) -> None:
        if not 128 <= datagram[0] <= 191 or is_rtcp(datagram):
            await self._send(datagram)
            return
        async with self._arrived:
            self._held.append(datagram)
            self._arrived.notify_all()


def sequence_steps(sequences: Sequence[int]) -> list[int]:
    """How far each of these wrapped sequence numbers is from the first one."""
    return [unwrap(sequence, sequences[0], 16) - sequences[0] for sequence in sequences]


def timestamp_steps(timestamps: Sequence[int]) -> list[int]:
    """The same for RTP timestamps."""
    return [unwrap(timestamp, timestamps[0], 32) - timestamps[0] for timestamp in timestamps]


def make_deaf(peer: RTCPeerConnection) -> None:
    """From now on the client answers nothing, as one whose network is gone; its WebSocket is another matter."""
    for transceiver in peer.getTransceivers():
        connection: Any = transceiver.receiver.transport.transport._connection
        for protocol in connection._protocols:
            protocol.datagram_received = lambda datagram, address: None


def cut(client: Signalling) -> None:
    """Ends the TCP connection as a killed process does: without WebSocket's closing handshake."""
    with socket.socket(fileno=os.dup(client.socket.get_extra_info("socket").fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
