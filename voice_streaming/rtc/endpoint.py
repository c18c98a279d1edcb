"""What all peers share: sockets, certificate, timer wheel, counters."""

from __future__ import annotations

import msgspec

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

    def apart(self) -> Endpoint:
        """With sockets of its own, on any free port, for one peer, which closes them with itself.

        For a connection to another server: what comes from its socket to ours can only be of one connection.
        """
        return _Apart(self)

    def note_peer_closed(self) -> None:
        """A peer of it is closed."""

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        self.timers.close()
        self.sockets.close()


class _Apart(Endpoint):
    """Shares the certificate and the timers of another."""

    def __init__(self, base: Endpoint) -> None:
        self.settings = base.settings
        self.sockets = LocalSockets(msgspec.structs.replace(base.settings, udp_ports=""))
        self.certificate = base.certificate
        self.timers = base.timers
        self.refused_media = 0

    def note_peer_closed(self) -> None:
        self.sockets.close()
