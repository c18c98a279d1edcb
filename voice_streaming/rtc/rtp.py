"""RTP and RTCP as bytes (RFC 3550); no I/O.

Only what a relay of one Opus stream needs: the fixed header (CSRCs and extensions are skipped), sender and receiver
reports, and BYE. What cannot be parsed gives None and changes nothing.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

from ..media.opus import CLOCK_RATE_HZ
from ..streams.timeline import unwrap

RTP_VERSION = 2
HEADER = struct.Struct("!BBHII")
HEADER_BYTES = HEADER.size

_RTCP_SR = 200
_RTCP_RR = 201
_RTCP_SDES = 202
_RTCP_BYE = 203
_NTP_UNIX_OFFSET_S = 2_208_988_800
"""Seconds from NTP's epoch, 1900, to Unix's, 1970 (RFC 5905 figure 4)."""
_REPORT_BLOCK = struct.Struct("!IIIIII")


class RtpPacket(NamedTuple):
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse_rtp(datagram: bytes | memoryview) -> RtpPacket | None:
    """The packet without CSRCs, header extension and padding (RFC 3550 section 5.1); None if it is not RTP."""
    size = len(datagram)
    if size < HEADER_BYTES:
        return None
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(datagram)
    if first >> 6 != RTP_VERSION:
        return None
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if size < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    end = size
    if first & 0x20:
        padding = datagram[-1]
        if padding == 0:
            return None
        end -= padding
    if start > end:
        return None
    return RtpPacket(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc, bytes(datagram[start:end]))


def pack_header(payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int) -> bytes:
    """The 12 bytes of a header without CSRCs or extension; sequence and timestamp are wrapped here."""
    return HEADER.pack(
        RTP_VERSION << 6,
        payload_type | (0x80 if marker else 0),
        sequence & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )


def is_rtcp(datagram: bytes | memoryview) -> bool:
    """Whether a datagram with RTP's version bits is RTCP (RFC 5761 section 4)."""
    return len(datagram) >= 2 and 192 <= datagram[1] <= 223


def ntp_time(unix_s: float | None = None) -> int:
    """NTP time in 64 bits, 32 of them the fraction (RFC 3550 section 4); of now, if no time is given."""
    return round(((time.time() if unix_s is None else unix_s) + _NTP_UNIX_OFFSET_S) * 2**32)


class SenderReport(NamedTuple):
    """The sender's part of an SR (RFC 3550 section 6.4.1)."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """A receiver's report of one source (RFC 3550 section 6.4.1); `jitter` in ticks, `fraction_lost` in 256ths."""

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest_sequence: int
    jitter: int
    lsr: int
    dlsr: int


class Rtcp(NamedTuple):
    """The parts of a compound packet that a relay uses."""

    sender_reports: list[SenderReport]
    blocks: list[ReportBlock]
    byes: list[int]
    reporters: list[int]
    """The SSRCs of those who report, in SR or RR."""


def parse_rtcp(datagram: bytes) -> Rtcp | None:
    """Reads a compound packet (RFC 3550 section 6.1), skipping packet types that a relay has no use for."""
    rtcp = Rtcp([], [], [], [])
    offset, size = 0, len(datagram)
    while offset < size:
        if size - offset < 4 or datagram[offset] >> 6 != RTP_VERSION:
            return None
        count = datagram[offset] & 0x1F
        end = offset + 4 * (1 + int.from_bytes(datagram[offset + 2 : offset + 4], "big"))
        if end > size or not _read_rtcp(datagram[offset + 1], count, datagram[offset + 4 : end], rtcp):
            return None
        offset = end
    return rtcp


def _read_rtcp(kind: int, count: int, body: bytes, rtcp: Rtcp) -> bool:
    """Adds one packet of a compound to `rtcp`; False when it is shorter than its header says."""
    blocks_at = 4
    if kind == _RTCP_SR:
        if len(body) < 24:
            return False
        rtcp.sender_reports.append(SenderReport(*struct.unpack_from("!IQIII", body)))
        blocks_at = 24
    elif kind == _RTCP_BYE:
        if len(body) < 4 * count:
            return False
        rtcp.byes.extend(struct.unpack_from(f"!{count}I", body))
        return True
    elif kind != _RTCP_RR:
        return True
    if len(body) < blocks_at + count * _REPORT_BLOCK.size:
        return False
    rtcp.reporters.append(int.from_bytes(body[:4], "big"))
    for index in range(count):
        ssrc, lost, highest, jitter, lsr, dlsr = _REPORT_BLOCK.unpack_from(body, blocks_at + index * _REPORT_BLOCK.size)
        cumulative = lost & 0xFFFFFF
        if cumulative >= 0x800000:
            cumulative -= 0x1000000
        rtcp.blocks.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, lsr, dlsr))
    return True


def pack_sender_report(report: SenderReport, cname: str) -> bytes:
    """A compound of SR without blocks and SDES with the CNAME (RFC 3550 sections 6.4.1 and 6.5)."""
    sender = struct.pack("!BBHIQIII", 0x80, _RTCP_SR, 6, *report)
    return sender + _pack_source_description(report.ssrc, cname)


def pack_receiver_report(ssrc: int, block: ReportBlock, cname: str) -> bytes:
    """A compound of an RR with one block (RFC 3550 section 6.4.2) and SDES with the CNAME, as section 6.1 demands."""
    lost = block.fraction_lost << 24 | (block.packets_lost & 0xFFFFFF)
    body = _REPORT_BLOCK.pack(block.ssrc, lost, block.highest_sequence, block.jitter, block.lsr, block.dlsr)
    report = struct.pack("!BBHI", 0x81, _RTCP_RR, 1 + len(body) // 4, ssrc) + body
    return report + _pack_source_description(ssrc, cname)


def pack_bye(ssrc: int, cname: str) -> bytes:
    """A compound of an empty RR, SDES with the CNAME and a BYE (RFC 3550 sections 6.1 and 6.6)."""
    report = struct.pack("!BBHI", 0x80, _RTCP_RR, 1, ssrc)
    return report + _pack_source_description(ssrc, cname) + struct.pack("!BBHI", 0x81, _RTCP_BYE, 1, ssrc)


def _pack_source_description(ssrc: int, cname: str) -> bytes:
    """SDES with one chunk of one item, ended by one to four zero bytes (RFC 3550 section 6.5)."""
    name = cname.encode()[:255]
    chunk = struct.pack("!IBB", ssrc, 1, len(name)) + name
    chunk += bytes(4 - len(chunk) % 4)
    return struct.pack("!BBH", 0x81, _RTCP_SDES, len(chunk) // 4) + chunk


@dataclass
class Reception:
    """Receive statistics of one source, for its reports (RFC 3550 sections 6.4 and A.8)."""

    ssrc: int
    received: int = 0
    jitter: float = 0.0
    """Ticks of the RTP clock."""
    last_report: int = 0
    """Middle 32 bits of the NTP time in the newest SR."""
    last_report_s: float = 0.0
    _first: int | None = None
    _highest: int = 0
    _newest_timestamp: int = 0
    _transit: float | None = None
    _expected_before: int = 0
    _received_before: int = 0

    def count(self, sequence: int, timestamp: int, arrived_s: float) -> None:
        """Counts a packet by the numbers of its header; `arrived_s` are monotonic seconds."""
        self.received += 1
        if self._first is None:
            self._first, self._highest, self._newest_timestamp = sequence, sequence, timestamp
        sequence = unwrap(sequence, self._highest, 16)
        timestamp = unwrap(timestamp, self._newest_timestamp, 32)
        transit = arrived_s * CLOCK_RATE_HZ - timestamp
        if sequence >= self._highest:
            self._highest, self._newest_timestamp = sequence, timestamp
            if self._transit is not None:
                self.jitter += (abs(transit - self._transit) - self.jitter) / 16
            self._transit = transit

    @property
    def lost(self) -> int:
        return 0 if self._first is None else self._highest - self._first + 1 - self.received

    def note_sender_report(self, report: SenderReport, arrived_s: float) -> None:
        self.last_report = report.ntp >> 16 & 0xFFFF_FFFF
        self.last_report_s = arrived_s

    def block(self, now_s: float) -> ReportBlock:
        """The report at `now_s`; the fraction lost is since the previous call."""
        expected = self.lost + self.received
        expected_since = expected - self._expected_before
        lost_since = expected_since - (self.received - self._received_before)
        self._expected_before, self._received_before = expected, self.received
        fraction = (lost_since << 8) // expected_since if expected_since > 0 and lost_since > 0 else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(fraction, 255),
            packets_lost=max(-0x800000, min(self.lost, 0x7FFFFF)),
            highest_sequence=self._highest & 0xFFFF_FFFF,
            jitter=min(int(self.jitter), 0xFFFF_FFFF),
            lsr=self.last_report,
            dlsr=min(int((now_s - self.last_report_s) * 65536), 0xFFFF_FFFF) if self.last_report else 0,
        )
