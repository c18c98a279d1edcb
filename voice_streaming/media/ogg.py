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
_CHECKSUM_AT = 22

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


class OggOpusWriter:
    """One logical stream of stereo: packets that follow one another without a hole become pages."""

    def __init__(
        self, serial: int, *, position: int = 0, pre_skip: int = LIVE_PRE_SKIP, tags: Mapping[str, str] | None = None
    ) -> None:
        """`serial` has 32 bits; `position` is the granule position at which the first packet begins; `tags` are
        comments such as TITLE (RFC 7845 section 5.2)."""
        self.position = position
        """Granule position after the newest packet, in ticks of CLOCK_RATE_HZ."""
        self.buffered_ticks = 0
        """Of packets that are in no page yet."""
        self._serial = serial
        self._page_number = 0
        self._flags = _FIRST_PAGE
        self._packets: list[bytes] = []
        self._segments = bytearray()
        self._full_pages: list[bytes] = []
        self.headers = self._header_page(_opus_head(pre_skip)) + self._header_page(_opus_tags(tags or {}))
        """The pages that every copy of the stream begins with; any later page may follow them."""

    def add(self, payload: bytes, ticks: int) -> None:
        """The next packet and its duration."""
        full, rest = divmod(len(payload), 255)
        if len(self._segments) + full + 1 > _MOST_SEGMENTS:
            self._full_pages.append(self._page())
        self._segments += b"\xff" * full
        self._segments.append(rest)
        self._packets.append(payload)
        self.position += ticks
        self.buffered_ticks += ticks

    def pages(self) -> bytes:
        """All packets that were added since the last call, as whole pages: one, unless they are very many."""
        pages = self._full_pages
        if self._packets:
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
        page = self.pages()
        self.position = position
        return page

    def _page(self) -> bytes:
        header = _PAGE_HEADER.pack(
            b"OggS", 0, self._flags, self.position, self._serial, self._page_number, bytes(4), len(self._segments)
        )
        page = b"".join((header, self._segments, *self._packets))
        self._page_number = self._page_number + 1 & 0xFFFF_FFFF
        self._flags &= ~_FIRST_PAGE
        self._packets.clear()
        self._segments.clear()
        return page[:_CHECKSUM_AT] + checksum(page) + page[_CHECKSUM_AT + 4 :]


def _opus_head(pre_skip: int) -> bytes:
    """RFC 7845 section 5.1. Two channels, so that packets may change between mono and stereo (section 5.1.1)."""
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, CHANNELS, pre_skip, CLOCK_RATE_HZ, 0, 0)


def _opus_tags(tags: Mapping[str, str]) -> bytes:
    """RFC 7845 section 5.2."""
    comments = [f"{name}={value}".encode() for name, value in tags.items()]
    parts = [b"OpusTags", _counted(VENDOR), struct.pack("<I", len(comments)), *map(_counted, comments)]
    return b"".join(parts)


def _counted(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


@dataclass(frozen=True)
class MuxerFormat:
    """What is the same for a muxer's whole life. `patience` is as OpusLine has it."""

    serial: int
    patience: int
    pre_skip: int = LIVE_PRE_SKIP


class OggMuxer:
    """One or several timelines of Opus packets, one after the other, as one logical Ogg stream in real time.

    `due` is what OpusLine says: the ticks of real time since position 0, by the caller's clock.
    """

    def __init__(
        self,
        chosen: MuxerFormat,
        counters: OpusLineCounters,
        *,
        position: int = 0,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._writer = OggOpusWriter(chosen.serial, position=position, pre_skip=chosen.pre_skip, tags=tags)
        self._line = OpusLine(self._writer.add, counters, patience=chosen.patience, position=position)

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
