"""Pages and headers, against a reader of our own and against FFmpeg."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.audio import Samples, decode_audio, decode_opus, encode_opus
from tests.support.matching import match
from tests.support.ogg import crc, payloads_of, read_ogg_opus, read_pages, read_tags, ticks_of
from tests.support.radio import packets_of
from voice_streaming.media.ogg import (
    LIVE_PRE_SKIP,
    RECORDING_PRE_SKIP,
    OggFormat,
    OggMuxer,
    OggOpusWriter,
    checksum,
    padded,
)
from voice_streaming.media.opus import OpusPacket, packet_ticks
from voice_streaming.media.opus_line import OpusLineCounters

FORMAT = OggFormat(0xFEDC_BA98, RECORDING_PRE_SKIP)
LIVE_FORMAT = OggFormat(7, LIVE_PRE_SKIP)
PATIENCE = 5760


@pytest.fixture(scope="module")
def payloads(speech: Samples) -> list[bytes]:
    return encode_opus(speech)


def written(payloads: list[bytes], per_page: int = 4) -> bytes:
    writer = OggOpusWriter(FORMAT)
    parts = [writer.headers]
    for index, payload in enumerate(payloads, 1):
        writer.add(payload, packet_ticks(payload) or 0)
        if index % per_page == 0:
            parts.append(writer.pages())
    return b"".join([*parts, writer.finish()])


@given(st.binary(max_size=600))
def test_the_checksum_is_that_of_rfc_3533(data: bytes) -> None:
    assert checksum(data) == crc(data).to_bytes(4, "little")


opus_payloads = st.builds(
    lambda config, stereo, body: bytes([config << 3 | stereo << 2]) + body,
    st.integers(0, 31),
    st.integers(0, 1),
    st.binary(max_size=1275),
)


@given(st.lists(opus_payloads, max_size=40), st.integers(1, 20))
def test_packets_come_back_out_of_pages(packets: list[bytes], per_page: int) -> None:
    pages = read_ogg_opus(written(packets, per_page))
    found = payloads_of(pages)
    assert found[: len(packets)] == packets
    assert len(found) <= len(packets) + 1
    assert pages[-1].position == sum(map(ticks_of, found))
    assert pages[-1].flags == 4


def test_what_one_page_cannot_hold_becomes_several() -> None:
    writer = OggOpusWriter(LIVE_FORMAT)
    packets = [b"\x08" + bytes([index]) * 1270 for index in range(200)]
    for packet in packets:
        writer.add(packet, 960)
    pages = read_pages(writer.pages())
    assert len(pages) == 4
    assert payloads_of(pages) == packets
    assert writer.pages() == b""


def test_headers_have_the_tags_and_the_pre_skip() -> None:
    writer = OggOpusWriter(LIVE_FORMAT, position=480_000, tags={"TITLE": "Küche", "DATE": "2026-11-26"})
    head, tags = read_pages(writer.headers)
    assert head.packets[0][10:12] == LIVE_PRE_SKIP.to_bytes(2, "little")
    assert read_tags(tags.packets[0]) == {"TITLE": "Küche", "DATE": "2026-11-26"}
    writer.add(b"\xf8\xff\xfe", 960)
    (page,) = read_pages(writer.pages())
    assert page.position == 480_960


def test_ffmpeg_decodes_what_was_encoded(payloads: list[bytes]) -> None:
    decoded = decode_audio(written(payloads))
    reference = decode_opus(payloads)[RECORDING_PRE_SKIP:]
    assert decoded.size - reference.size in range(121)
    assert match(reference, decoded).score > 0.99


def test_ffmpeg_knows_length_and_title(payloads: list[bytes]) -> None:
    writer = OggOpusWriter(FORMAT, tags={"TITLE": "kitchen"})
    for payload in payloads:
        writer.add(payload, 960)
    with av.open(io.BytesIO(writer.headers + writer.finish())) as container:
        stream = container.streams.audio[0]
        assert stream.metadata["TITLE"] == "kitchen"
        assert stream.duration is not None
        assert stream.duration + RECORDING_PRE_SKIP - len(payloads) * 960 in (0, RECORDING_PRE_SKIP)


def test_a_file_that_was_cut_at_any_byte_is_playable(payloads: list[bytes]) -> None:
    whole = written(payloads[:100], per_page=5)
    headers = len(OggOpusWriter(FORMAT).headers)
    for length in range(headers, len(whole), 41):
        assert_playable(payloads, whole, length)


def assert_playable(payloads: list[bytes], whole: bytes, length: int) -> None:
    pages = read_ogg_opus(whole[:length], cut=True)
    assert payloads_of(pages) == payloads[: len(payloads_of(pages))]
    ticks = pages[-1].position if pages else 0
    assert max(0, ticks - RECORDING_PRE_SKIP) == pytest.approx(
        decode_audio(whole[:length]).size, abs=RECORDING_PRE_SKIP
    )


def test_a_player_that_joins_at_a_later_page_plays_from_there(payloads: list[bytes]) -> None:
    writer = OggOpusWriter(LIVE_FORMAT)
    parts = []
    for index, payload in enumerate(payloads, 1):
        writer.add(payload, 960)
        if index % 5 == 0:
            parts.append(writer.pages())
    joined = writer.headers + b"".join(parts[40:])
    assert read_ogg_opus(joined, joined=True)[0].number == 42
    reference = decode_opus(payloads)[40 * 4800 :]
    assert match(reference, decode_audio(joined)).score > 0.97


def test_a_muxer_puts_timelines_one_after_the_other(payloads: list[bytes]) -> None:
    """As `latest` does: another sender, with numbers and a clock of its own."""
    muxer = OggMuxer(FORMAT, OpusLineCounters(), patience=PATIENCE)
    parts = [muxer.headers]
    for first, sequence, timestamp in ((48_000, 5, 77), (400_000, 60_000, 2**31)):
        muxer.begin_timeline()
        for packet in packets_of(payloads[:100], sequence=sequence, timestamp=timestamp):
            due = first + packet.timestamp - timestamp + 960
            muxer.push(packet, due)
            muxer.advance(due)
            if muxer.buffered_ticks >= 4800:
                parts.append(muxer.pages())
        for due in range(first + 96_000, first + 300_000, 4800):
            muxer.advance(due)
    pages = read_ogg_opus(b"".join([*parts, muxer.finish(800_000)]))
    assert 0 <= 800_000 - pages[-1].position < 120
    found = payloads_of(pages)
    for begun in (48_000, 400_000):
        before = found[: found.index(payloads[1], 0 if begun == 48_000 else found.index(payloads[1]) + 1) - 1]
        assert 0 <= begun - sum(map(ticks_of, before)) < 960


def test_a_packet_of_every_length_and_of_one_or_two_channels_keeps_positions_right() -> None:
    """All configurations of RFC 6716 table 2, each mono and stereo, in all four frame count codes."""
    muxer = OggMuxer(FORMAT, OpusLineCounters(), patience=PATIENCE)
    timestamp = 0
    packets: list[OpusPacket] = []
    for toc in range(256):
        payload = bytes([toc, 2]) if toc & 3 == 3 else bytes([toc, 0]) if toc & 3 == 2 else bytes([toc])
        ticks = packet_ticks(payload)
        if ticks is not None:
            packets.append(OpusPacket(payload, len(packets), timestamp, False, 0.0))
            timestamp += ticks
            muxer.push(packets[-1], timestamp)
    pages = read_ogg_opus(muxer.headers + muxer.finish())
    assert len(packets) > 250
    assert payloads_of(pages) == [packet.payload for packet in packets]
    assert pages[-1].position == timestamp


@given(opus_payloads, st.integers(2, 3000))
def test_padding_changes_the_length_alone(payload: bytes, count: int) -> None:
    longer = padded(payload, count)
    assert len(longer) == len(payload) + count
    assert packet_ticks(longer) == packet_ticks(payload)


def test_decoders_skip_padding(payloads: list[bytes]) -> None:
    assert np.array_equal(decode_opus(padded(payload, 500) for payload in payloads), decode_opus(payloads))


def test_pages_and_headers_are_padded_to_what_is_asked_for(payloads: list[bytes]) -> None:
    """As FFmpeg's own decoder takes it, too."""
    writer, plain = OggOpusWriter(OggFormat(7, 312, 8000, 2048), tags={"TITLE": "kitchen"}), OggOpusWriter(FORMAT)
    parts, plain_parts = [writer.headers], [plain.headers]
    assert len(writer.headers) in range(2048, 2148)
    for index, payload in enumerate(payloads, 1):
        writer.add(payload, 960)
        plain.add(payload, 960)
        if index % 5 == 0:
            parts.append(writer.pages())
            plain_parts.append(plain.pages())
    pages = read_ogg_opus(b"".join(parts))
    assert all(sum(map(len, page.packets)) >= 800 - 1 for page in pages)
    assert np.array_equal(decode_audio(b"".join(parts)), decode_audio(b"".join(plain_parts)))
