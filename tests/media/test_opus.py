from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.audio import decode_opus
from voice_streaming.media.opus import CLOCK_RATE_HZ, BrokenPacket, OpusDecoder, packet_ticks


def test_decodes_as_libopus_does(payloads: list[bytes]) -> None:
    decoder = OpusDecoder()
    samples = np.concatenate([decoder.decode(payload) for payload in payloads])
    assert samples.dtype == np.int16
    assert samples.shape == (len(payloads) * 960, 2)
    assert np.array_equal(samples[:, 0], samples[:, 1])
    assert np.abs(samples[:, 0] / 32768 - decode_opus(payloads)).max() < 1e-3


def test_concealment_goes_on_and_dies_away(payloads: list[bytes]) -> None:
    """A TOC byte alone makes libopus conceal; were it not so, this would be silence or an error."""
    decoder = OpusDecoder()
    spoken = [decoder.decode(payload) for payload in payloads[:160]]
    step = max(int(np.abs(np.diff(block[:, 0].astype(int))).max()) for block in spoken)
    concealed = [decoder.conceal() for _ in range(15)]
    assert all(block.shape == (960, 2) for block in concealed)
    power = [float(np.mean(np.square(block, dtype=np.float64))) for block in (spoken[-1], *concealed)]
    assert power[1] > power[0] / 10
    assert power[15] < power[1] / 10
    joined = np.concatenate([spoken[-1], *concealed])[:, 0].astype(int)
    assert np.abs(np.diff(joined)).max() <= step


@pytest.mark.parametrize("payload", [b"", b"\xff", bytes([0x03, 0xFF]) + b"x" * 30])
def test_a_broken_packet_is_reported_and_does_no_harm(payloads: list[bytes], payload: bytes) -> None:
    decoder = OpusDecoder()
    for good in payloads[:20]:
        decoder.decode(good)
    if payload:
        with pytest.raises(BrokenPacket):
            decoder.decode(payload)
    after = np.concatenate([decoder.decode(good) for good in payloads[20:60]])
    assert np.abs(after).max() > 1000


def test_the_clock_counts_the_samples_of_a_packet(payloads: list[bytes]) -> None:
    """20 ms are 960 ticks (RFC 7587 section 4.1)."""
    assert len(OpusDecoder().decode(payloads[0])) == CLOCK_RATE_HZ / 50


@given(st.binary(min_size=1, max_size=60))
@settings(max_examples=500)
def test_a_packets_duration_is_what_libopus_decodes(payload: bytes) -> None:
    try:
        decoded = len(OpusDecoder().decode(payload))
    except BrokenPacket:
        assert packet_ticks(payload) is None
    else:
        assert packet_ticks(payload) == decoded
