from __future__ import annotations

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket
from aiortc.rtp import RtpPacket as AiortcPacket
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.rtc import rtp
from voice_streaming.rtc.rtp import ReportBlock, SenderReport

uint16 = st.integers(0, (1 << 16) - 1)
uint32 = st.integers(0, (1 << 32) - 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_rtp_packet_or_none(datagram: bytes) -> None:
    packet = rtp.parse_rtp(datagram)
    assert packet is None or len(packet.payload) <= len(datagram) - rtp.HEADER_BYTES
    rtp.is_rtcp(datagram)


@given(st.binary(max_size=60), st.integers(0, 63))
def test_any_bytes_behind_a_version_2_header_are_an_rtp_packet_or_none(rest: bytes, flags: int) -> None:
    datagram = bytes([0x80 | flags]) + rest
    packet = rtp.parse_rtp(datagram)
    if packet is not None:
        assert packet.payload in datagram


@given(
    st.integers(0, 127),
    st.booleans(),
    uint16,
    uint32,
    uint32,
    st.binary(max_size=50),
    st.lists(uint32, max_size=15),
    st.one_of(st.none(), st.binary(max_size=8).map(lambda content: content + bytes(-len(content) % 4))),
    st.integers(0, 255),
)
def test_csrcs_extension_and_padding_are_skipped(
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    csrcs: list[int],
    extension: bytes | None,
    padding: int,
) -> None:
    header = bytearray(rtp.pack_header(payload_type, marker, sequence, timestamp, ssrc))
    header[0] |= len(csrcs) | (0x20 if padding else 0) | (0x10 if extension is not None else 0)
    datagram = bytes(header) + b"".join(csrc.to_bytes(4, "big") for csrc in csrcs)
    if extension is not None:
        datagram += b"\xbe\xde" + (len(extension) // 4).to_bytes(2, "big") + extension
    datagram += payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")
    assert rtp.parse_rtp(datagram) == (payload_type, marker, sequence, timestamp, ssrc, payload)


@given(st.integers(0, 127), st.booleans(), st.integers(-(1 << 20), 1 << 40), st.integers(-(1 << 20), 1 << 60), uint32)
def test_a_packed_header_is_what_aiortc_reads(
    payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int
) -> None:
    packet = AiortcPacket.parse(rtp.pack_header(payload_type, marker, sequence, timestamp, ssrc) + b"voice")
    assert (packet.payload_type, packet.marker, packet.ssrc) == (payload_type, marker, ssrc)
    assert (packet.sequence_number, packet.timestamp) == (sequence & 0xFFFF, timestamp & 0xFFFFFFFF)
    assert packet.payload == b"voice"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(20),
        b"\x81" + bytes(11),
        b"\x90" + bytes(13),
        b"\x90" + bytes(13) + b"\x00\x01",
        b"\xa0" + bytes(11),
        b"\xa0" + bytes(10) + b"\x0d",
    ],
    ids=["empty", "short", "version", "csrc", "extension", "extension-short", "padding-0", "padding-long"],
)
def test_a_packet_that_is_shorter_than_it_says_is_none(datagram: bytes) -> None:
    assert rtp.parse_rtp(datagram) is None


def test_rtcp_is_distinguished_from_rtp_as_rfc_5761_says() -> None:
    kinds = [kind for kind in range(256) if rtp.is_rtcp(bytes([0x80, kind]))]
    assert kinds == list(range(192, 224))
    assert not rtp.is_rtcp(b"\x80")


# Timeline


# RTCP


@given(st.binary(max_size=200))
def test_any_bytes_are_rtcp_or_none(datagram: bytes) -> None:
    rtp.parse_rtcp(datagram)


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.sampled_from([200, 201, 202, 203, 204, 205]), st.binary(max_size=80)),
        max_size=4,
    ),
    st.integers(0, 3),
)
def test_anything_like_a_compound_is_rtcp_or_none(packets: list[tuple[int, int, bytes]], cut: int) -> None:
    datagram = b""
    for first, kind, body in packets:
        body += bytes(-len(body) % 4)
        datagram += bytes([0x80 | first & 0x3F, kind]) + (len(body) // 4).to_bytes(2, "big") + body
    parsed = rtp.parse_rtcp(datagram[: len(datagram) - cut])
    if parsed is not None:
        assert len(parsed.blocks) <= 31 * len(packets)


@given(uint32, st.integers(0, (1 << 64) - 1), uint32, uint32, uint32, st.text(min_size=1, max_size=40))
def test_a_sender_report_is_what_aiortc_reads(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, cname: str
) -> None:
    report = SenderReport(ssrc, ntp, timestamp, packets, octets)
    datagram = rtp.pack_sender_report(report, cname)
    sr, sdes = RtcpPacket.parse(datagram)
    assert isinstance(sr, RtcpSrPacket)
    assert isinstance(sdes, RtcpSdesPacket)
    assert sr.ssrc == ssrc
    assert (sr.sender_info.ntp_timestamp, sr.sender_info.rtp_timestamp) == (ntp, timestamp)
    assert (sr.sender_info.packet_count, sr.sender_info.octet_count) == (packets, octets)
    (chunk,) = sdes.chunks
    assert chunk.ssrc == ssrc
    assert chunk.items == [(1, cname.encode())]
    assert rtp.parse_rtcp(datagram) == ([report], [], [], [ssrc])


@given(
    uint32,
    st.builds(
        ReportBlock,
        ssrc=uint32,
        fraction_lost=st.integers(0, 255),
        packets_lost=st.integers(-(1 << 23), (1 << 23) - 1),
        highest_sequence=uint32,
        jitter=uint32,
        lsr=uint32,
        dlsr=uint32,
    ),
)
def test_a_receiver_report_is_what_aiortc_reads(ssrc: int, block: ReportBlock) -> None:
    datagram = rtp.pack_receiver_report(ssrc, block, "voice")
    rr, sdes = RtcpPacket.parse(datagram)
    assert isinstance(rr, RtcpRrPacket)
    assert isinstance(sdes, RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in sdes.chunks] == [(ssrc, [(1, b"voice")])]
    (read,) = rr.reports
    assert rr.ssrc == ssrc
    assert (read.ssrc, read.fraction_lost, read.packets_lost) == block[:3]
    assert (read.highest_sequence, read.jitter, read.lsr, read.dlsr) == block[3:]
    assert rtp.parse_rtcp(datagram) == ([], [block], [], [ssrc])


def test_a_goodbye_is_what_aiortc_reads() -> None:
    report, sdes, bye = RtcpPacket.parse(rtp.pack_bye(77, "voice"))
    assert isinstance(report, RtcpRrPacket)
    assert isinstance(sdes, RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in sdes.chunks] == [(77, [(1, b"voice")])]
    assert isinstance(bye, RtcpByePacket)
    assert bye.sources == [77]
    assert rtp.parse_rtcp(rtp.pack_bye(77, "voice")) == ([], [], [77], [77])


def test_a_compound_cut_short_is_none() -> None:
    datagram = rtp.pack_sender_report(SenderReport(1, 2, 3, 4, 5), "voice") + rtp.pack_bye(1, "voice")
    for size in range(len(datagram)):
        parsed = rtp.parse_rtcp(datagram[:size])
        if size % 4 or 0 < size < 28:
            assert parsed is None, size


def test_ntp_time_counts_from_1900() -> None:
    assert rtp.ntp_time(0.0) == 2_208_988_800 << 32
    assert rtp.ntp_time(1.5) - rtp.ntp_time(0.0) == 3 << 31


# Reception


def test_loss_is_counted_and_the_fraction_is_that_since_the_last_report() -> None:
    reception = rtp.Reception(9)
    for number in range(65_530, 65_630):
        if number % 10:
            reception.count(number & 0xFFFF, number * 960 & 0xFFFFFFFF, number * 0.02)
    first = reception.block(0.0)
    # Ten of these hundred numbers never came; the first of them would have been before the first that did.
    assert reception.received == 90
    assert first.packets_lost == 9
    assert first.fraction_lost == 9 * 256 // 99
    assert first.highest_sequence == 65_629
    assert reception.block(0.0).fraction_lost == 0


def test_a_late_packet_is_no_loss_and_a_second_copy_counts_against_it() -> None:
    reception = rtp.Reception(9)
    for number in (1, 2, 4, 3, 5):
        reception.count(number, number * 960, number * 0.02)
    assert reception.lost == 0
    reception.count(5, 4_800, 0.1)
    assert reception.lost == -1
    first = reception.block(0.0)
    # More came than was expected: no fraction, which has no sign (RFC 3550 section 6.4.1).
    assert (first.packets_lost, first.fraction_lost) == (-1, 0)
    assert reception.block(0.0).fraction_lost == 0
    reception.count(5, 4_800, 0.1)
    second = reception.block(0.0)
    assert (second.packets_lost, second.fraction_lost) == (-2, 0)


def test_jitter_is_that_of_rfc_3550_appendix_a8() -> None:
    reception = rtp.Reception(9)
    expected, before = 0.0, None
    for number in range(100):
        arrived_s = number * 0.02 + (0.005 if number % 3 else 0.0)
        transit = arrived_s * 48_000 - number * 960
        if before is not None:
            expected += (abs(transit - before) - expected) / 16
        before = transit
        reception.count(number, number * 960, arrived_s)
    assert reception.jitter == pytest.approx(expected)
    assert reception.block(0.0).jitter == int(expected) > 0


def test_a_report_says_when_the_last_sender_report_came() -> None:
    reception = rtp.Reception(9)
    reception.count(1, 960, 0.0)
    assert (reception.block(5.0).lsr, reception.block(5.0).dlsr) == (0, 0)
    reception.note_sender_report(SenderReport(9, 0x1122334455667788, 0, 0, 0), 4.0)
    assert reception.block(5.5).lsr == 0x33445566
    assert reception.block(5.5).dlsr == 1.5 * 65_536


def test_no_fraction_is_lost_where_copies_outnumber_the_lost() -> None:
    reception = rtp.Reception(9)
    for number in (1, 2, 3, 3, 5):
        reception.count(number, number * 960, number * 0.02)
    assert reception.block(0.0).fraction_lost == 0
    reception.count(6, 6 * 960, 0.12)
    reception.count(6, 6 * 960, 0.12)
    assert reception.block(0.0).fraction_lost == 0
    reception.count(8, 8 * 960, 0.16)
    assert reception.block(0.0).fraction_lost == 128


def test_the_delay_since_a_sender_report_of_long_ago_fits_its_field() -> None:
    reception = rtp.Reception(9)
    reception.count(1, 960, 0.0)
    reception.note_sender_report(SenderReport(9, 0x1122334455667788, 0, 0, 0), 0.0)
    block = reception.block(65_536.0)
    assert block.dlsr == 0xFFFF_FFFF
    assert rtp.parse_rtcp(rtp.pack_receiver_report(7, block, "relay")) == rtp.Rtcp([], [block], [], [7])
