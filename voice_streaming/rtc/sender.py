"""A client that sends."""

from __future__ import annotations

import asyncio

from ..media.opus import OpusPacket
from ..streams.track import OpusTrack
from . import rtp, sdp
from .endpoint import Endpoint
from .peer import Peer


class SenderPeer(Peer):
    """A client that sends: what it sends is published on `track`."""

    def __init__(self, endpoint: Endpoint, track: OpusTrack) -> None:
        super().__init__(endpoint, "recvonly")
        self.track = track
        self._payload_type = -1
        self._reception: rtp.Reception | None = None
        self._heard_s = 0.0
        self._ssrc = self._transceiver.sender._ssrc

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer. Raises Refused."""
        taken = sdp.take_offer(offer, self._endpoint.sockets.hosts())
        await self._take(taken.sdp, "offer")
        self._payload_type = sdp.opus_payload_type(self._transceiver._codecs)
        return sdp.finish_answer(await self._describe(), taken, self._endpoint.settings)

    @property
    def reception(self) -> rtp.Reception | None:
        """What arrived of the client's present SSRC; None before the first packet."""
        return self._reception

    def _report(self, now_s: float) -> None:
        if self._reception is not None:
            self._send_rtcp(rtp.pack_receiver_report(self._ssrc, self._reception.block(now_s)))

    def on_timer(self, now_s: float) -> None:
        super().on_timer(now_s)
        if now_s - self._heard_s > self._endpoint.settings.media_timeout_s:
            self._lose("no packets come")

    def _start_media(self) -> None:
        self._heard_s = asyncio.get_running_loop().time()

    def _on_rtp(self, datagram: memoryview, arrived_s: float) -> None:
        packet = rtp.parse_rtp(datagram)
        if packet is None or packet.payload_type != self._payload_type or not packet.payload:
            self._endpoint.refused_media += 1
            return
        self._heard_s = arrived_s
        sequence, timestamp = self.track.timeline.place(packet.ssrc, packet.sequence, packet.timestamp, arrived_s)
        self.track.publish(OpusPacket(packet.payload, sequence, timestamp, packet.marker, arrived_s))
        if self._reception is None or self._reception.ssrc != packet.ssrc:
            self._reception = rtp.Reception(packet.ssrc)
        self._reception.count(packet.sequence, packet.timestamp, arrived_s)

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        for report in rtcp.sender_reports:
            if self._reception is not None and self._reception.ssrc == report.ssrc:
                self._reception.note_sender_report(report, asyncio.get_running_loop().time())
