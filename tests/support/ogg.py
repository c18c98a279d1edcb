"""A reader of Ogg Opus, written from the RFCs alone, which checks what `opusinfo` checks."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

FRAME_MS = [10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4
"""RFC 6716 table 2."""


@dataclass(frozen=True)
class Page:
    flags: int
    position: int
    serial: int
    number: int
    packets: list[bytes]

    @property
    def ticks(self) -> int:
        return sum(ticks_of(packet) for packet in self.packets)


@cache
def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        register = value << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        table.append(register & 0xFFFFFFFF)
    return table


def crc(data: bytes) -> int:
    """RFC 3533 section 6, field 7."""
    register = 0
    for value in data:
        register = (register << 8 & 0xFFFFFFFF) ^ _crc_table()[register >> 24 ^ value]
    return register


def ticks_of(packet: bytes) -> int:
    """A packet's duration at 48 kHz."""
    counts = {0: 1, 1: 2, 2: 2}
    count = counts.get(packet[0] & 3) or packet[1] & 63
    return int(FRAME_MS[packet[0] >> 3] * 48 * count)


def read_pages(data: bytes, *, cut: bool = False) -> list[Page]:
    """The pages one after the other; with `cut`, the last may be incomplete and is left out. AssertionError for what
    is wrong."""
    pages = []
    at = 0
    while at < len(data):
        page, after = _read_page(data, at)
        if page is None:
            assert cut, f"the page at byte {at} is incomplete"
            break
        pages.append(page)
        at = after
    return pages


def _read_page(data: bytes, at: int) -> tuple[Page | None, int]:
    if len(data) - at < 27:
        return None, at
    magic, version, flags, position, serial, number, told, segments = struct.unpack_from("<4sBBqIIIB", data, at)
    assert magic == b"OggS", f"no page at byte {at}"
    assert version == 0
    lengths = data[at + 27 : at + 27 + segments]
    after = at + 27 + segments + sum(lengths)
    if len(lengths) < segments or after > len(data):
        return None, at
    assert crc(data[at : at + 22] + bytes(4) + data[at + 26 : after]) == told, f"the CRC of page {number} is wrong"
    packets, begun, start = [], at + 27 + segments, at + 27 + segments
    for length in lengths:
        start += length
        if length < 255:
            packets.append(data[begun:start])
            begun = start
    assert begun == after, "a packet goes on in the next page"
    return Page(flags, position, serial, number, packets), after


def read_ogg_opus(data: bytes, *, cut: bool = False, joined: bool = False) -> list[Page]:
    """The pages of sound of one logical stream. AssertionError for what RFC 7845 does not allow.

    `joined`: by somebody who came later, for whom pages are missing after the headers.
    """
    head, tags, *pages = read_pages(data, cut=cut)
    assert head.flags == 2
    assert head.position == tags.position == 0
    (identification,), (comments,) = head.packets, tags.packets
    assert identification[:8] == b"OpusHead"
    version, channels, _, rate, gain, family = struct.unpack("<BBHIhB", identification[8:])
    assert (version, channels, rate, gain, family) == (1, 2, 48_000, 0, 0)
    read_tags(comments)
    everything = [head, tags, *pages]
    assert {page.serial for page in everything} == {head.serial}
    assert all(page.flags & ~4 == 0 for page in everything[1:])
    assert all(page.flags & 4 == 0 for page in everything[:-1])
    if not joined:
        assert [page.number for page in everything] == list(range(len(everything)))
        assert not pages or pages[0].position == pages[0].ticks
    _assert_in_a_row(pages)
    return pages


def _assert_in_a_row(pages: list[Page]) -> None:
    for before, page in itertools.pairwise(pages):
        assert page.number == before.number + 1
        assert page.position == before.position + page.ticks


def read_tags(comments: bytes) -> dict[str, str]:
    """RFC 7845 section 5.2."""
    assert comments[:8] == b"OpusTags"
    at = 12 + struct.unpack_from("<I", comments, 8)[0]
    (count,) = struct.unpack_from("<I", comments, at)
    at += 4
    found = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<I", comments, at)
        name, _, value = comments[at + 4 : at + 4 + length].decode().partition("=")
        found[name] = value
        at += 4 + length
    assert not any(comments[at:]), "there may be padding of zeros alone"
    return found


def payloads_of(pages: Iterable[Page]) -> list[bytes]:
    return [packet for page in pages for packet in page.packets]
