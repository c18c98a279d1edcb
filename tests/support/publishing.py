"""Packets that are placed on a track's timeline already."""

from __future__ import annotations

from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.track import OpusTrack


def hand_out(track: OpusTrack, packet: OpusPacket) -> None:
    """Hands a packet with just these numbers to the track's sinks, as its source does once it has placed it."""
    track._timeline.sequence = max(track._timeline.sequence, packet.sequence)
    track._hand_out(packet)
