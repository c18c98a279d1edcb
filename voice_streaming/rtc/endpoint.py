"""What all peers share."""

from __future__ import annotations

from ..process.failures import Failures
from ..settings.model import WebrtcSettings
from .certificate import SharedCertificate
from .local_sockets import LocalSockets
from .timer_wheel import TimerWheel

PEER_INTERVAL_S = 2.5
"""How often a peer's timer is due: an RTCP report and a consent check by turns, so either every 5 s, as RFC 3550
section 6.2 and RFC 7675 section 5.1 have it."""


class Endpoint:
    """This machine's end of every peer connection: sockets, certificate, timers and what is counted of all peers."""

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
