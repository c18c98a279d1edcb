"""A client that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..process.refusal import Refused
from ..streams.source import Source
from ..streams.track import OpusTrack
from . import rtp, sdp
from .endpoint import Endpoint
from .peer import Peer


class SenderPeer(Peer):
    """A client that sends: from when it is connected, what it sends is published on `track`, and nobody else's is.

    `on_replaced` is called when another takes the track's source: once, and not after `close`.
    """

    def __init__(self, endpoint: Endpoint, track: OpusTrack) -> None:
        super().__init__(endpoint, "recvonly")
        self.on_replaced: Callable[[], None] = _no_op
        self.track = track
        self._source: Source | None = None
        """From when it is connected: a peer that never is takes nothing from the one before it."""
        self._payload_type = -1
        self._reception: rtp.Reception | None = None
        self._heard_s = 0.0
        self._ssrc = self._transceiver.sender._ssrc

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer. Raises Refused, also where the track is somebody's for good."""
        self.track.check_takeable()
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
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        try:
            self._source = self.track.take_source(self._lose_source)
        except Refused as refusal:
            # It has become somebody's for good since the answer. Later, when `_on_keys` is done.
            loop.call_soon(self._lose, str(refusal))

    def _lose_source(self) -> None:
        self.on_replaced()

    def _leave(self) -> None:
        self.on_replaced = _no_op
        if self._source is not None:
            self._source.release()

    def _on_rtp(self, datagram: memoryview, arrived_s: float) -> None:
        packet = rtp.parse_rtp(datagram)
        if packet is None or packet.payload_type != self._payload_type or not packet.payload:
            self._endpoint.refused_media += 1
            return
        self._heard_s = arrived_s
        if self._source is None or not self._source.publish(
            packet.ssrc, packet.sequence, packet.timestamp, packet.marker, packet.payload, arrived_s
        ):
            self._endpoint.refused_media += 1
        if self._reception is None or self._reception.ssrc != packet.ssrc:
            self._reception = rtp.Reception(packet.ssrc)
        self._reception.count(packet.sequence, packet.timestamp, arrived_s)

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        for report in rtcp.sender_reports:
            if self._reception is not None and self._reception.ssrc == report.ssrc:
                self._reception.note_sender_report(report, asyncio.get_running_loop().time())


def _no_op() -> None:
    """What is called of a peer that nobody listens to."""
