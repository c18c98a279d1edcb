"""Opus in Ogg (RFC 3533, RFC 7845), from packets as they came: nothing is decoded. No I/O, no clock, no event loop.

A writer of our own, not PyAV's muxer: that one (17.1) holds each page back until the next one is full, which is 60 to
100 ms of delay and of what a cut loses, opens an encoder that is not used, and takes 3 us for a packet. Here a page is
made when it is asked for, and contains whole packets only: a listener can begin at any page, a file that was cut at any
byte is playable up to its last whole page, and a packet costs 1 us.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .opus import CHANNELS, CLOCK_RATE_HZ, OpusPacket
from .opus_line import OpusLine, OpusLineCounters, silence

LIVE_PRE_SKIP = 80 * CLOCK_RATE_HZ // 1000
"""What decoders discard at the begin: 80 ms, for one that begins in the middle of a voice (RFC 7845 section 4.2)."""

RECORDING_PRE_SKIP = 312
"""The delay of libopus' encoder at its default, 6.5 ms: for a file that begins with a sender's first packet."""

VENDOR = b"voice-streaming"

_PAGE_HEADER = struct.Struct("<4sBBqII4sB")
"""RFC 3533 section 6."""
_MOST_SEGMENTS = 255
_CAPTURE = b"OggS"
_FLAGS_AT = 5
_CHECKSUM_AT = 22

LEAST_PADDING_BYTES = 2
"""The frame count byte, and one for the padding's length."""

_FIRST_PAGE = 0x02
_LAST_PAGE = 0x04

_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def checksum(page: bytes) -> bytes:
    """The CRC of a page whose own CRC is zeros, as it stands in the page (RFC 3533 section 6).

    Ogg's polynomial is zlib's, but with the most significant bit first, and without inverting begin and end. So zlib
    does it, on bytes whose bits are reversed.
    """
    reversed_crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return reversed_crc.to_bytes(4, "big").translate(_REVERSED_BITS)


def padded(payload: bytes, count: int) -> bytes:
    """A packet of code 0, longer by `count` bytes, at least LEAST_PADDING_BYTES, which decoders skip (RFC 6716 section
    3.2.5)."""
    full, rest = divmod(count - LEAST_PADDING_BYTES, 255)
    head = bytes([payload[0] | 3, 0x41]) + b"\xff" * full + bytes([rest])
    return head + payload[1:] + bytes(254 * full + rest)


class Page(NamedTuple):
    """A page that was read."""

    position: int
    """Granule position after it."""
    data: bytes

    @property
    def payload(self) -> bytes:
        return self.data[_PAGE_HEADER.size + self.data[_PAGE_HEADER.size - 1] :]


MOST_PAGE_BYTES = _PAGE_HEADER.size + _MOST_SEGMENTS + _MOST_SEGMENTS * 255


def page_at_begin(data: bytes) -> Page | None:
    """The page that the data begins with; None unless it is whole, with the right checksum."""
    if len(data) < _PAGE_HEADER.size:
        return None
    capture, version, _, position, _, _, _, segments = _PAGE_HEADER.unpack_from(data)
    body_at = _PAGE_HEADER.size + segments
    if capture != _CAPTURE or version != 0 or len(data) < body_at:
        return None
    end = body_at + sum(data[_PAGE_HEADER.size : body_at])
    page = data[:end]
    is_whole = len(page) == end and _with_checksum(page) == page
    return Page(position, page) if is_whole else None


def last_page_in(data: bytes) -> Page | None:
    """The page that the data ends with, which may begin anywhere in it."""
    at = data.rfind(_CAPTURE)
    while at >= 0:
        page = page_at_begin(data[at:])
        if page is not None and at + len(page.data) == len(data):
            return page
        at = data.rfind(_CAPTURE, 0, at)
    return None


def ended(page: bytes) -> bytes:
    """The same as the last page of its stream."""
    flags = bytes([page[_FLAGS_AT] | _LAST_PAGE])
    return _with_checksum(page[:_FLAGS_AT] + flags + page[_FLAGS_AT + 1 :])


def _with_checksum(page: bytes) -> bytes:
    """The page with the right CRC, whatever it has."""
    before, after = page[:_CHECKSUM_AT], page[_CHECKSUM_AT + 4 :]
    return before + checksum(before + bytes(4) + after) + after


@dataclass(frozen=True)
class OggFormat:
    """What is the same for a logical stream's whole life."""

    serial: int
    """Of 32 bits; different from those of other streams that players may be given."""
    pre_skip: int
    least_bytes_per_s: int = 0
    """Pages with less are padded, for players that read in blocks of bytes."""
    least_header_bytes: int = 0
    """Likewise, both headers together."""


class OggOpusWriter:
    """One logical stream of stereo: packets that follow one another without a hole become pages."""

    def __init__(self, chosen: OggFormat, *, position: int = 0, tags: Mapping[str, str] | None = None) -> None:
        """`position` is the granule position at which the first packet begins; `tags` are comments such as TITLE (RFC
        7845 section 5.2)."""
        self.position = position
        """Granule position after the newest packet, in ticks of CLOCK_RATE_HZ."""
        self.buffered_ticks = 0
        """Of packets that are in no page yet."""
        self._format = chosen
        self._page_number = 0
        self._flags = _FIRST_PAGE
        self._packets: list[bytes] = []
        self._segments = 0
        self._full_pages: list[bytes] = []
        head = self._header_page(_opus_head(chosen.pre_skip))
        self.headers = head + self._header_page(_opus_tags(tags or {}, chosen.least_header_bytes - len(head)))
        """The pages that every copy of the stream begins with; any later page may follow them."""

    def add(self, payload: bytes, ticks: int) -> None:
        """The next packet and its duration."""
        segments = len(payload) // 255 + 1
        if self._segments + segments > _MOST_SEGMENTS:
            self._full_pages.append(self._page())
        self._segments += segments
        self._packets.append(payload)
        self.position += ticks
        self.buffered_ticks += ticks

    def pages(self) -> bytes:
        """All packets that were added since the last call, as whole pages: one, unless they are very many."""
        pages = self._full_pages
        if self._packets:
            self._pad()
            pages.append(self._page())
        self._full_pages = []
        self.buffered_ticks = 0
        return b"".join(pages)

    def finish(self) -> bytes:
        """As `pages`, with the end of the stream; no packet may follow. 2.5 ms of silence, where nothing is left."""
        if not self._packets:
            for payload, ticks in silence(120):
                self.add(payload, ticks)
        self._flags |= _LAST_PAGE
        return self.pages()

    def _header_page(self, payload: bytes) -> bytes:
        """A page of its own with the granule position 0 (RFC 7845 section 3)."""
        position, self.position = self.position, 0
        self.add(payload, 0)
        page = self._page()
        self.position = position
        return page

    def _pad(self) -> None:
        """Lengthens a packet of the page by as much as the format's `least_bytes_per_s` asks for."""
        least = self.buffered_ticks * self._format.least_bytes_per_s // CLOCK_RATE_HZ
        missing = least - sum(map(len, self._packets))
        if missing < LEAST_PADDING_BYTES or self._segments + missing // 255 + 1 > _MOST_SEGMENTS:
            return
        for index, payload in enumerate(self._packets):
            if payload[0] & 3 == 0:
                self._packets[index] = padded(payload, missing)
                return

    def _page(self) -> bytes:
        segments = bytearray()
        for payload in self._packets:
            full, rest = divmod(len(payload), 255)
            segments += b"\xff" * full
            segments.append(rest)
        header = _PAGE_HEADER.pack(
            _CAPTURE, 0, self._flags, self.position, self._format.serial, self._page_number, bytes(4), len(segments)
        )
        page = b"".join((header, segments, *self._packets))
        self._page_number = self._page_number + 1 & 0xFFFF_FFFF
        self._flags &= ~_FIRST_PAGE
        self._packets.clear()
        self._segments = 0
        return page[:_CHECKSUM_AT] + checksum(page) + page[_CHECKSUM_AT + 4 :]


def _opus_head(pre_skip: int) -> bytes:
    """RFC 7845 section 5.1. Two channels, so that packets may change between mono and stereo (section 5.1.1)."""
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, CHANNELS, pre_skip, CLOCK_RATE_HZ, 0, 0)


def _opus_tags(tags: Mapping[str, str], least_bytes: int) -> bytes:
    """RFC 7845 section 5.2, with zeros at the end, which readers ignore."""
    comments = [f"{name}={value}".encode() for name, value in tags.items()]
    parts = [b"OpusTags", _counted(VENDOR), struct.pack("<I", len(comments)), *map(_counted, comments)]
    return b"".join(parts).ljust(least_bytes, b"\0")


def _counted(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


class OggMuxer:
    """One or several timelines of Opus packets, one after the other, as one logical Ogg stream in real time.

    `due` is what OpusLine says: the ticks of real time since position 0, by the caller's clock.
    """

    def __init__(
        self,
        chosen: OggFormat,
        counters: OpusLineCounters,
        *,
        patience: int,
        position: int = 0,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """`patience` is OpusLine's; `position` and `tags` are OggOpusWriter's."""
        self._writer = OggOpusWriter(chosen, position=position, tags=tags)
        self._line = OpusLine(self._writer.add, counters, patience=patience, position=position)

    @property
    def headers(self) -> bytes:
        """As `OggOpusWriter.headers`."""
        return self._writer.headers

    @property
    def position(self) -> int:
        """Ticks that were put out."""
        return self._writer.position

    @property
    def buffered_ticks(self) -> int:
        """Of what `pages` would give."""
        return self._writer.buffered_ticks

    def begin_timeline(self) -> None:
        """The next packet is of another timeline, such as another stream's."""
        self._line.begin_timeline()

    def push(self, packet: OpusPacket, due: float) -> None:
        """Takes a packet, in whatever order it arrived; `due` is that of its arrival."""
        self._line.push(packet, due)

    def advance(self, due: float) -> None:
        """So late it is: what does not come any more becomes silence."""
        self._line.advance(due)

    def pages(self) -> bytes:
        """What is complete and was not given yet, as whole pages; nothing, where that is none."""
        return self._writer.pages()

    def finish(self, due: float | None = None) -> bytes:
        """The last pages; nothing may follow. With `due`, silence goes on to that position."""
        self._line.finish(due)
        return self._writer.finish()
