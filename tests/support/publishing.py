"""What a track hands to its sinks, from either side: packets without a source, and a sink that keeps them."""

from __future__ import annotations

from voice_streaming.media.opus import OpusPacket
from voice_streaming.streams.track import OpusTrack


class Recorder:
    """A sink that keeps a track's packets."""

    def __init__(self) -> None:
        self.packets: list[OpusPacket] = []

    def on_packet(self, packet: OpusPacket) -> None:
        self.packets.append(packet)

    def on_end(self) -> None:
        """The packets are what counts."""


def hand_out(track: OpusTrack, packet: OpusPacket) -> None:
    """Hands a packet with just these numbers to the track's sinks, as its source does once it has placed it."""
    track._timeline.sequence = max(track._timeline.sequence, packet.sequence)
    track._hand_out(packet)
