"""An Opus packet on a stream's timeline."""

from __future__ import annotations

from typing import NamedTuple

CLOCK_RATE_HZ = 48_000
"""The RTP clock of Opus, whatever the coded bandwidth (RFC 7587 section 4.1)."""


class OpusPacket(NamedTuple):
    """One Opus packet (RFC 6716) as it came from the sender, placed on its stream's timeline.

    `sequence` and `timestamp` are unwrapped: they grow without bound, keep the source's holes and pauses, and go on
    across a change of the sender's SSRC. A packet that arrives late has the smaller numbers that are its own.
    """

    payload: bytes
    """Never empty: an empty payload is dropped at the tap, as it would poison a decoder."""
    sequence: int
    timestamp: int
    """In ticks of CLOCK_RATE_HZ."""
    marker: bool
    """First packet of a talkspurt (RFC 3551 section 4.1)."""
    arrived_s: float
    """Monotonic seconds (the event loop's clock) at which the datagram was read."""
