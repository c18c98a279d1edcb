"""What all peers share: sockets, certificate, timer wheel, counters."""

from __future__ import annotations

from ..process.failures import Failures
from ..settings.model import WebrtcSettings
from .certificate import SharedCertificate
from .local_sockets import LocalSockets
from .timer_wheel import TimerWheel

PEER_INTERVAL_S = 2.5
"""Interval of a peer's timer. It alternates between an RTCP report and a consent check, so that each is sent every 5 s
(RFC 3550 section 6.2, RFC 7675 section 5.1)."""


class Endpoint:
    """The local side of every peer connection."""

    def __init__(self, settings: WebrtcSettings, failures: Failures) -> None:
        self.settings = settings
        self.sockets = LocalSockets(settings)
        self.certificate = SharedCertificate()
        self.timers = TimerWheel(PEER_INTERVAL_S, failures)
        self.refused_media = 0
        """Media datagrams that failed authentication, were replayed, do not parse or are not published."""

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        self.timers.close()
        self.sockets.close()
