"""The handle by which packets are published on a track."""

from __future__ import annotations

from collections.abc import Callable

from ..media.opus import OpusPacket
from .timeline import Timeline


class Source:
    """The only handle that may publish on a track, from `OpusTrack.take_source` until another is taken.

    After that, after `release` and after the track's end, `publish` only counts what it drops.
    """

    def __init__(self, timeline: Timeline, hand_out: Callable[[OpusPacket], None], *, is_exclusive: bool) -> None:
        """For `OpusTrack.take_source`."""
        self.refused_packets = 0
        """Packets that were published when it was no longer the track's."""
        self.is_exclusive = is_exclusive
        self._timeline = timeline
        self._hand_out: Callable[[OpusPacket], None] | None = hand_out

    @property
    def is_current(self) -> bool:
        return self._hand_out is not None

    def publish(self, ssrc: int, sequence: int, timestamp: int, marker: bool, payload: bytes, arrived_s: float) -> bool:
        """Hands a packet to the track's sinks, at once; False if it was dropped and counted instead.

        The numbers are those of the packet's RTP header, of 16 and 32 bits, and are placed by `Timeline.place`.
        `payload` is not empty; `arrived_s` are monotonic seconds.
        """
        hand_out = self._hand_out
        if hand_out is None:
            self.refused_packets += 1
            return False
        placed = self._timeline.place(ssrc, sequence, timestamp, arrived_s)
        if placed is None:
            return False
        hand_out(OpusPacket(payload, placed[0], placed[1], marker, arrived_s))
        return True

    def release(self) -> None:
        """Gives it back; safe to call twice."""
        self._hand_out = None
