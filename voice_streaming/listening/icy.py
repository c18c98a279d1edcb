"""ICY metadata: the title of what is played, in blocks within the audio of an Internet radio."""

from __future__ import annotations

import math

METADATA_INTERVAL_BYTES = 16_000
"""Audio between two metadata blocks: as SHOUTcast servers have it, a second at 128 kbit/s."""

_MOST_TEXT_BYTES = 255 * 16
"""A block's length is one byte, in units of 16 bytes."""


def printable(text: str) -> str:
    """The text on one line, without control characters, as a header needs it."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def metadata_block(title: str) -> bytes:
    """A block with this `StreamTitle`: a length byte and the text, padded with zeros.

    Players end the title at the first `';`, so an apostrophe becomes the typographic one, and a title does not begin
    with a semicolon, which would follow the opening apostrophe. A title that is too long is cut between two characters.
    """
    shown = printable(title).replace("'", "\u2019").lstrip(";").encode()
    most_bytes = _MOST_TEXT_BYTES - len(b"StreamTitle='';")
    text = b"StreamTitle='" + shown[:most_bytes].decode(errors="ignore").encode() + b"';"
    units = math.ceil(len(text) / 16)
    return bytes([units]) + text.ljust(units * 16, b"\0")


class IcyInterleaver:
    """Inserts metadata into one listener's audio, after exactly every METADATA_INTERVAL_BYTES of it."""

    def __init__(self) -> None:
        self._left = METADATA_INTERVAL_BYTES
        self._title: str | None = None

    def interleave(self, audio: bytes, title: str) -> bytes:
        """The audio with the blocks that are due in it; the block of an unchanged title is empty."""
        if len(audio) < self._left:
            self._left -= len(audio)
            return audio
        pieces = []
        position = 0
        while len(audio) - position >= self._left:
            pieces.append(audio[position : position + self._left])
            position += self._left
            self._left = METADATA_INTERVAL_BYTES
            pieces.append(b"\0" if title == self._title else metadata_block(title))
            self._title = title
        pieces.append(audio[position:])
        self._left -= len(audio) - position
        return b"".join(pieces)
