"""What a client sends while it is not to be heard."""

from __future__ import annotations

from collections import deque

from .source import Source

MOST_EARLY_S = 0.2
"""What came so long before its client is to be heard is heard as well: media by UDP overtakes the word by TCP, of which
one segment may be lost and sent again (RFC 6298: not before 0.2 s in common stacks)."""
_SHORTEST_PACKET_S = 0.0025
"""RFC 6716 section 2.1.4."""


class Withheld:
    """Takes a client's packets in place of a track's source, and keeps the latest."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, int, int, bool, bytes, float]] = deque(
            maxlen=round(MOST_EARLY_S / _SHORTEST_PACKET_S)
        )

    def publish(self, ssrc: int, sequence: int, timestamp: int, marker: bool, payload: bytes, arrived_s: float) -> bool:
        """As `Source.publish`, for later."""
        self._packets.append((ssrc, sequence, timestamp, marker, payload, arrived_s))
        return True

    def release(self) -> None:
        self._packets.clear()

    def pass_on(self, source: Source, now_s: float) -> None:
        """Publishes what came within MOST_EARLY_S, and keeps nothing."""
        for packet in self._packets:
            if packet[-1] >= now_s - MOST_EARLY_S:
                source.publish(*packet)
        self._packets.clear()
