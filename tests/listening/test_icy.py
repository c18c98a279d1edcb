from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.listening.icy import METADATA_INTERVAL_BYTES, IcyInterleaver, metadata_block, printable


@given(st.text())
def test_a_block_is_as_long_as_it_says_and_holds_one_title(title: str) -> None:
    block = metadata_block(title)
    assert len(block) == 1 + block[0] * 16
    text = block[1:].rstrip(b"\0").decode()
    assert text.startswith("StreamTitle='")
    assert text.endswith("';")
    assert "'" not in text.removeprefix("StreamTitle='").removesuffix("';")


def test_a_title_that_is_too_long_is_cut_between_characters() -> None:
    block = metadata_block("ü" * 3000)
    assert block[0] == 255
    assert block[1:].rstrip(b"\0").decode().count("ü") == (4080 - 15) // 2


@given(st.text())
def test_a_printable_text_is_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == printable(shown)
    shown.encode()


@pytest.mark.parametrize("piece", [1, 417, 1671, METADATA_INTERVAL_BYTES - 1, METADATA_INTERVAL_BYTES, 50_001])
def test_metadata_stands_at_every_interval_exactly(piece: int) -> None:
    audio = bytes(index * 7 % 251 for index in range(100_000))
    icy = IcyInterleaver()
    sent = b"".join(icy.interleave(audio[begin : begin + piece], "Küche") for begin in range(0, len(audio), piece))
    found, titles = b"", []
    while len(sent) > METADATA_INTERVAL_BYTES:
        found += sent[:METADATA_INTERVAL_BYTES]
        length = sent[METADATA_INTERVAL_BYTES] * 16
        titles.append(sent[METADATA_INTERVAL_BYTES + 1 :][:length])
        sent = sent[METADATA_INTERVAL_BYTES + 1 + length :]
    assert found + sent == audio
    assert titles == [metadata_block("Küche")[1:], b"", b"", b"", b"", b""]


def test_a_block_comes_with_the_last_byte_of_its_interval() -> None:
    """A player waits for the title no longer than for the audio before it."""
    icy, interval = IcyInterleaver(), bytes(METADATA_INTERVAL_BYTES)
    assert icy.interleave(interval, "Kitchen") == interval + metadata_block("Kitchen")
    assert icy.interleave(b"", "Kitchen") == b""
    assert icy.interleave(interval, "Kitchen") == interval + b"\0"
