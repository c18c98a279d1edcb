"""Makes peers, with one fan-out for each track."""

from __future__ import annotations

import functools
import weakref

from ..media.opus import CLOCK_RATE_HZ
from ..process.failures import Failures
from ..settings.model import WebrtcSettings
from ..streams.relay import VoiceRelay
from ..streams.track import OpusTrack
from .endpoint import Endpoint
from .fanout import Drops, Fanout
from .receiver import ReceiverPeer
from .sender import SenderPeer


class Peers:
    """Every WebRTC peer of this server."""

    def __init__(self, settings: WebrtcSettings, relay: VoiceRelay, failures: Failures | None = None) -> None:
        self.endpoint = Endpoint(settings, Failures() if failures is None else failures)
        self._relay = relay
        self._fanouts: weakref.WeakKeyDictionary[OpusTrack, Fanout] = weakref.WeakKeyDictionary()
        self._retired_forwarded = 0
        self._retired_drops = Drops()

    def sender(self, track: OpusTrack, *, apart: bool = False) -> SenderPeer:
        """A peer that will publish what a client sends on `track`; `apart`: see `Endpoint.apart`."""
        return SenderPeer(self.endpoint.apart() if apart else self.endpoint, track)

    def receiver(self, track: OpusTrack, *, apart: bool = False) -> ReceiverPeer:
        """A peer that will send a client what is published on `track`; `apart`: see `Endpoint.apart`."""
        return ReceiverPeer(self.endpoint.apart() if apart else self.endpoint, track, self.fanout(track))

    def fanout(self, track: OpusTrack) -> Fanout:
        fanout = self._fanouts.get(track)
        if fanout is None:
            fanout = Fanout(self._relay, track)
            if track.readyState == "live":
                self._fanouts[track] = fanout
                # A fan-out refers to its track, the key, so that the weak dictionary alone would never drop either.
                track.add_listener("ended", functools.partial(self._retire, track))
        return fanout

    def _retire(self, track: OpusTrack) -> None:
        fanout = self._fanouts.pop(track)
        self._retired_forwarded += fanout.forwarded
        self._retired_drops.add(fanout.drops)

    def figures(self) -> dict[str, float]:
        """For `/metrics`: figures of all peers. Packet counts include the streams that have ended."""
        drops, forwarded = Drops(), self._retired_forwarded
        drops.add(self._retired_drops)
        for fanout in self._fanouts.values():
            drops.add(fanout.drops)
            forwarded += fanout.forwarded
        reports = [peer.last_report for peer in self.endpoint.timers if isinstance(peer, ReceiverPeer)]
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
            "refused_media": self.endpoint.refused_media,
        }

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        self.endpoint.close()
