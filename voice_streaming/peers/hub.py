"""What all peers share: sockets, the certificate, fan-outs and the round of reports and consent checks."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import weakref
from typing import TYPE_CHECKING

from aiortc.rtcdtlstransport import RTCCertificate

from ..addresses import lan_addresses
from ..config import WebrtcSettings
from ..fanout import Drops, Fanout
from ..opus import CLOCK_RATE_HZ
from ..relay import OpusTrack, VoiceRelay
from ..udp import SharedSocket
from .peer import SRTP_PROFILES, replace
from .receiver import ReceiverPeer
from .sender import SenderPeer

if TYPE_CHECKING:
    from .peer import Peer

logger = logging.getLogger(__name__)

ATTENTION_INTERVAL_S = 2.5
"""How often each peer is attended to: an RTCP report and a consent check by turns, so either every 5 s, as RFC 3550
section 6.2 and RFC 7675 section 5.1 have it."""
ROUND_SLOTS = 25
"""Peers are spread over this many moments of an interval, so that a thousand do not come in one burst."""
_MOMENT_S = ATTENTION_INTERVAL_S / ROUND_SLOTS
ADDRESSES_AGE_S = 5.0
"""How long the list of this machine's addresses is believed: making it takes half a millisecond."""
CERTIFICATE_AGE_S = 86_400.0
"""All peers share a certificate; it is made anew once a day, long before its 30 days are over."""


class Peers:
    """Makes peers, and owns what they share."""

    def __init__(self, settings: WebrtcSettings, relay: VoiceRelay) -> None:
        self.settings = settings
        self.refused_media = 0
        """Media datagrams that failed authentication, were replayed or do not parse."""
        self._retired_forwarded = 0
        self._retired_drops = Drops()
        self._relay = relay
        self._sockets: dict[str, SharedSocket] = {}
        self._fanouts: weakref.WeakKeyDictionary[OpusTrack, Fanout] = weakref.WeakKeyDictionary()
        self._slots: list[set[Peer]] = [set() for _ in range(ROUND_SLOTS)]
        self._listed: list[str] = []
        self._listed_s = -ADDRESSES_AGE_S
        self._clock: asyncio.TimerHandle | None = None
        self._moment = 0
        """The newest that was attended to, or is: moments are counted on the loop's clock, and each has its slot."""
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
        self._retired_drops.add(fanout.drops)

    def figures(self) -> dict[str, float]:
        """What `/metrics` says of peers, over all streams so far where it is a count."""
        drops, forwarded = Drops(), self._retired_forwarded
        drops.add(self._retired_drops)
        for fanout in self._fanouts.values():
            drops.add(fanout.drops)
            forwarded += fanout.forwarded
        reports = [peer.last_report for slot in self._slots for peer in slot if isinstance(peer, ReceiverPeer)]
        known = [report for report in reports if report is not None]
        return {
            "receivers": sum(len(fanout) for fanout in self._fanouts.values()),
            "receivers_packets_lost": sum(report.packets_lost for report in known),
            "receivers_jitter_max_seconds": max((report.jitter for report in known), default=0) / CLOCK_RATE_HZ,
            "forwarded_packets": forwarded,
            "dropped_packets": drops.total,
            "dropped_packets_oversized": drops.oversized,
            "dropped_packets_unprotected": drops.unprotected,
            "dropped_packets_untaken": drops.untaken,
            "refused_media": self.refused_media,
        }

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
        hosts = self.hosts()
        for host in hosts:
            if host not in self._sockets:
                try:
                    self._sockets[host] = SharedSocket(host, self.settings.udp_port_range)
                except OSError as error:
                    ports = f" (webrtc.udp_ports {self.settings.udp_ports})" if self.settings.udp_ports else ""
                    logger.warning("No WebRTC on %s%s: %s", host, ports, error)
        for host in [host for host, shared in self._sockets.items() if host not in hosts and not shared.is_used]:
            self._sockets.pop(host).close()
        return [self._sockets[host] for host in hosts if host in self._sockets]

    def hosts(self) -> list[str]:
        """The addresses to gather candidates on."""
        if self.settings.host_addresses:
            return list(self.settings.host_addresses)
        now_s = time.monotonic()
        if now_s - self._listed_s > ADDRESSES_AGE_S:
            self._listed = lan_addresses() or ["127.0.0.1"]
            self._listed_s = now_s
        return self._listed

    def certificate(self) -> RTCCertificate:
        now_s = time.monotonic()
        if self._certificate is None or now_s - self._certificate_made_s > CERTIFICATE_AGE_S:
            certificate = RTCCertificate.generateCertificate()
            # Made once for all handshakes: each context costs a millisecond and memory of its own.
            context = certificate._create_ssl_context(SRTP_PROFILES)
            fingerprints = certificate.getFingerprints()
            replace(certificate, "_create_ssl_context", lambda srtp_profiles: context)
            replace(certificate, "getFingerprints", lambda: fingerprints)
            self._certificate, self._certificate_made_s = certificate, now_s
        return self._certificate

    def join_round(self, peer: Peer) -> None:
        """Attends to the peer every ATTENTION_INTERVAL_S, for the first time within that."""
        min(self._slots, key=len).add(peer)
        self._wait()

    def leave_round(self, peer: Peer) -> None:
        for slot in self._slots:
            slot.discard(peer)

    def _wait(self) -> None:
        """For the next moment whose slot has peers: others are not worth a wake-up."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        loop = asyncio.get_running_loop()
        first = max(self._moment, int(loop.time() / _MOMENT_S)) + 1
        moment = next(
            (moment for moment in range(first, first + ROUND_SLOTS) if self._slots[moment % ROUND_SLOTS]), None
        )
        if moment is not None:
            self._clock = loop.call_at(moment * _MOMENT_S, self._attend, moment)

    def _attend(self, moment: int) -> None:
        self._moment = moment
        self._wait()
        now_s = asyncio.get_running_loop().time()
        for peer in list(self._slots[moment % ROUND_SLOTS]):
            try:
                peer.attend(now_s)
            except Exception:
                logger.exception("A %s could not be attended to", type(peer).__name__)
