"""What senders say, and the sound of it."""

from __future__ import annotations

import pytest

from tests.support.audio import Samples, decode_opus, encode_opus
from tests.support.radio import packets_of
from voice_streaming.media.opus import OpusPacket


@pytest.fixture(scope="session")
def packets(speech: Samples) -> list[OpusPacket]:
    return packets_of(encode_opus(speech))


@pytest.fixture(scope="session")
def reference(packets: list[OpusPacket]) -> Samples:
    """What the sender's packets hold."""
    return decode_opus(packet.payload for packet in packets)
