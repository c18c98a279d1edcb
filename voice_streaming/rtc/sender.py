"""A client that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..process.refusal import Refused
from ..streams.source import Source
from ..streams.track import OpusTrack
from ..streams.withheld import Withheld
from . import rtp
from .endpoint import Endpoint
from .negotiated_peer import NegotiatedPeer


class SenderPeer(NegotiatedPeer):
    """A client that sends: from when it is connected, what it sends is published on `track`, and nobody else's is.

    `on_silent` is called when no packet has come for `webrtc.media_timeout_s` from a peer that is still connected,
    `on_heard` at the next packet after that; without an `on_silent` of its own, a silent peer is gone.
    """

    def __init__(self, endpoint: Endpoint, track: OpusTrack) -> None:
        super().__init__(endpoint, sends=True)
        self.on_silent: Callable[[], None] = self.lose_silent
        self.on_heard: Callable[[], None] = _no_op
        self.track = track
        self._source: Source | Withheld | None = None
        """From when it is connected: a peer that never is takes nothing from the one before it."""
        self._withheld: Withheld | None = None
        """While nothing is to be published."""
        self._payload_type = -1
        self._reception: rtp.Reception | None = None
        self._heard_s = 0.0
        self._is_silent = False
        self._silence_timer: asyncio.TimerHandle | None = None
        self._ssrc = self._transceiver.sender._ssrc

    async def answer(self, offer: str) -> str:
        """As for `NegotiatedPeer`; refused also while another has the track's source exclusively."""
        self.track.check_takeable()
        return await super().answer(offer)

    async def offer(self) -> str:
        """As for `NegotiatedPeer`; refused also while another has the track's source exclusively."""
        self.track.check_takeable()
        return await super().offer()

    def withhold(self) -> None:
        """Publishes nothing from now on, until `publish_on`; safe to call twice."""
        if self._withheld is not None:
            return
        self._withheld = Withheld()
        if self._source is not None:
            self._source.release()
            self._source = self._withheld

    def publish_on(self, track: OpusTrack) -> None:
        """After `withhold`: publishes on that track what comes from now on, and what came just before.

        Raises Refused `name_taken` while another has the track's source exclusively.
        """
        withheld = self._withheld
        if withheld is None:
            return
        track.check_takeable()
        self.track, self._withheld = track, None
        if self._source is not None:
            self._source = source = track.take_source()
            withheld.pass_on(source, asyncio.get_running_loop().time())

    @property
    def reception(self) -> rtp.Reception | None:
        """What arrived of the client's present SSRC; None before the first packet."""
        return self._reception

    def _report(self, now_s: float) -> None:
        if self._reception is not None:
            self._send_rtcp(rtp.pack_receiver_report(self._ssrc, self._reception.block(now_s), self._cname))

    def _set_payload_type(self, payload_type: int) -> None:
        self._payload_type = payload_type

    def _start_media(self) -> bool:
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        if self._source is not None:
            # The same peer, with a connection anew: an epoch of its own.
            self._source.release()
            self._source = None
        try:
            self._source = self._withheld or self.track.take_source()
        except Refused as refusal:
            # Another took it exclusively since the answer. Later, when `_on_keys` is done.
            loop.call_soon(self._lose, str(refusal))
        if not self._is_silent and self._silence_timer is None:
            self._await_silence()
        return True

    def _leave(self) -> None:
        if self._source is not None:
            self._source.release()

    def _await_silence(self) -> None:
        due_s = self._heard_s + self._endpoint.settings.media_timeout_s
        self._silence_timer = asyncio.get_running_loop().call_at(due_s, self._note_silence)

    def _note_silence(self) -> None:
        self._silence_timer = None
        if asyncio.get_running_loop().time() - self._heard_s < self._endpoint.settings.media_timeout_s:
            self._await_silence()
        else:
            self._is_silent = True
            self.on_silent()

    def lose_silent(self) -> None:
        """What a silent peer does without an `on_silent` of its own."""
        self._lose("no packets come")

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        self.on_silent = self.on_heard = _no_op
        if self._silence_timer is not None:
            self._silence_timer.cancel()

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
        if self._is_silent:
            self._is_silent = False
            self._await_silence()
            self.on_heard()

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        for report in rtcp.sender_reports:
            if self._reception is not None and self._reception.ssrc == report.ssrc:
                self._reception.note_sender_report(report, asyncio.get_running_loop().time())

    def _is_bye(self, rtcp: rtp.Rtcp) -> bool:
        return self._reception is not None and self._reception.ssrc in rtcp.byes


def _no_op() -> None:
    """The callback where none is set."""
