"""What all peers share: sockets, the certificate, fan-outs and the clock of their reports."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import weakref
from typing import TYPE_CHECKING

from aioice.ice import get_host_addresses
from aiortc.rtcdtlstransport import RTCCertificate

from ..config import WebrtcSettings
from ..fanout import Fanout
from ..relay import OpusTrack, VoiceRelay
from ..udp import SharedSocket
from .receiver import ReceiverPeer
from .sender import SenderPeer

if TYPE_CHECKING:
    from .peer import Peer

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 2.5
"""How often each peer is sent an RTCP report: within RFC 3550 section 6.2's bounds at any bit rate of a voice."""
REPORT_SLOTS = 10
"""Peers are spread over this many moments of an interval, so that their reports do not come in one burst."""
CERTIFICATE_AGE_S = 86_400.0
"""All peers share a certificate; it is made anew once a day, long before its 30 days are over."""


class Peers:
    """Makes peers, and owns what they share: sockets, certificate, fan-outs and the clock of their reports."""

    def __init__(self, settings: WebrtcSettings, relay: VoiceRelay) -> None:
        self.settings = settings
        self.early_media = 0
        """Media datagrams that came before the keys."""
        self.refused_media = 0
        """Media datagrams that failed authentication, were replayed or do not parse."""
        self._retired_forwarded = 0
        self._retired_dropped = 0
        self._relay = relay
        self._sockets: dict[str, SharedSocket] = {}
        self._fanouts: weakref.WeakKeyDictionary[OpusTrack, Fanout] = weakref.WeakKeyDictionary()
        self._slots: list[set[Peer]] = [set() for _ in range(REPORT_SLOTS)]
        self._clock: asyncio.TimerHandle | None = None
        self._certificate: RTCCertificate | None = None
        self._certificate_made_s = 0.0

    def sender(self, track: OpusTrack) -> SenderPeer:
        """A peer that will publish what a client sends on `track`."""
        return SenderPeer(self, track)

    def receiver(self, track: OpusTrack) -> ReceiverPeer:
        """A peer that will send a client what is published on `track`."""
        return ReceiverPeer(self, track, self.fanout(track))

    def fanout(self, track: OpusTrack) -> Fanout:
        fanout = self._fanouts.get(track)
        if fanout is None:
            fanout = Fanout(self._relay, track)
            if track.readyState == "live":
                self._fanouts[track] = fanout
                # A fan-out knows its track, so that neither would ever be forgotten.
                track.add_listener("ended", functools.partial(self._retire, track))
        return fanout

    def _retire(self, track: OpusTrack) -> None:
        fanout = self._fanouts.pop(track)
        self._retired_forwarded += fanout.forwarded
        self._retired_dropped += fanout.dropped

    @property
    def forwarded(self) -> int:
        """Packets times receivers, of all streams so far."""
        return self._retired_forwarded + sum(fanout.forwarded for fanout in self.fanouts)

    @property
    def dropped(self) -> int:
        """Packets that did not leave, of all streams so far."""
        return self._retired_dropped + sum(fanout.dropped for fanout in self.fanouts)

    @property
    def fanouts(self) -> list[Fanout]:
        return list(self._fanouts.values())

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        for shared in self._sockets.values():
            shared.close()
        self._sockets.clear()

    def sockets(self) -> list[SharedSocket]:
        """One for each host address that this machine has now; those of addresses that are gone close with use."""
        hosts = list(self.settings.host_addresses) or get_host_addresses(use_ipv4=True, use_ipv6=True) or ["127.0.0.1"]
        for host in hosts:
            if host not in self._sockets:
                try:
                    self._sockets[host] = SharedSocket(host)
                except OSError as error:
                    logger.warning("No WebRTC on %s: %s", host, error)
        for host in [host for host, shared in self._sockets.items() if host not in hosts and not shared.is_used]:
            self._sockets.pop(host).close()
        return [self._sockets[host] for host in hosts if host in self._sockets]

    def certificate(self) -> RTCCertificate:
        now_s = time.monotonic()
        if self._certificate is None or now_s - self._certificate_made_s > CERTIFICATE_AGE_S:
            self._certificate, self._certificate_made_s = RTCCertificate.generateCertificate(), now_s
        return self._certificate

    def start_reports(self, peer: Peer) -> None:
        min(self._slots, key=len).add(peer)
        if self._clock is None:
            self._report(0)

    def stop_reports(self, peer: Peer) -> None:
        for slot in self._slots:
            slot.discard(peer)

    def _report(self, slot: int) -> None:
        if not any(self._slots):
            self._clock = None
            return
        loop = asyncio.get_running_loop()
        self._clock = loop.call_later(REPORT_INTERVAL_S / REPORT_SLOTS, self._report, (slot + 1) % REPORT_SLOTS)
        now_s = loop.time()
        for peer in self._slots[slot]:
            try:
                peer.report(now_s)
            except Exception:
                logger.exception("%s: no report", peer)
