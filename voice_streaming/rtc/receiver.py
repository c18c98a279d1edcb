"""A client that receives."""

from __future__ import annotations

import asyncio

from ..media.opus import CLOCK_RATE_HZ
from ..streams.track import OpusTrack
from . import rtp
from .endpoint import Endpoint
from .fanout import Destination, Fanout
from .negotiated_peer import NegotiatedPeer


class ReceiverPeer(NegotiatedPeer):
    """A client that receives what is published on `track`, as soon as it is connected."""

    def __init__(self, endpoint: Endpoint, track: OpusTrack, fanout: Fanout) -> None:
        super().__init__(endpoint, sends=False)
        self.track = track
        self.destination: Destination | None = None
        self.last_report: rtp.ReportBlock | None = None
        """The receiver's latest report of loss and jitter."""
        self._fanout = fanout
        self._payload_type = -1
        self._source: int | None = None
        """The SSRC that the receiver reports with."""
        self._transceiver.sender._ssrc = fanout.ssrc

    def statistics(self) -> dict[str, float]:
        """What has been sent to this receiver, and what its latest report says of it."""
        sent = self._sent(asyncio.get_running_loop().time())
        report = self.last_report
        return {
            "packets_sent": sent.packets if sent else 0,
            "bytes_sent": sent.octets if sent else 0,
            "packets_dropped": self.destination.dropped if self.destination else 0,
            "packets_lost": report.packets_lost if report else 0,
            "fraction_lost": report.fraction_lost / 256 if report else 0,
            "jitter_seconds": report.jitter / CLOCK_RATE_HZ if report else 0,
        }

    def _sent(self, now_s: float) -> rtp.SenderReport | None:
        return self._fanout.sender_report(self.destination, now_s) if self.destination else None

    def _report(self, now_s: float) -> None:
        report = self._sent(now_s)
        if report:
            self._send_rtcp(rtp.pack_sender_report(report, self._cname))

    def _set_payload_type(self, payload_type: int) -> None:
        self._payload_type = payload_type
        if self.destination is not None:
            self._fanout.renumber(self.destination, payload_type)

    def _start_media(self) -> bool:
        route = self._route()
        if route is None:
            return False
        if self.destination is not None:
            self._fanout.remove(self.destination)
        self.destination = Destination(*route, self._dtls._tx_srtp, self._payload_type)
        self._fanout.add(self.destination)
        return True

    def _redirect(self) -> None:
        route = self._route()
        if self.destination is not None and route is not None:
            self._fanout.redirect(self.destination, *route)

    def _leave(self) -> None:
        if self.destination is not None:
            self._fanout.remove(self.destination)
            self._send_rtcp(rtp.pack_bye(self._fanout.ssrc, self._cname))

    def _is_bye(self, rtcp: rtp.Rtcp) -> bool:
        return self._source in rtcp.byes

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        if rtcp.reporters:
            self._source = rtcp.reporters[0]
        for block in rtcp.blocks:
            if block.ssrc == self._fanout.ssrc:
                self.last_report = block
