"""ICY metadata: how Internet radio tells a player what it plays, between the bytes of the audio."""

from __future__ import annotations

METADATA_INTERVAL_BYTES = 16_000
"""Audio between two metadata blocks: what SHOUTcast servers use, a second at 128 kbit/s."""

_MOST_TEXT_BYTES = 255 * 16
"""A block's length is one byte that counts sixteens."""


def printable(text: str) -> str:
    """The text on one line, without control characters, so that it can stand in a header."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def metadata_block(title: str) -> bytes:
    """A block with this `StreamTitle`: a length byte and the text, padded with zeros.

    Players end the title at the first `';`, so an apostrophe becomes the typographic one, and a title does not begin
    with a semicolon, which would follow the opening apostrophe. A title that is too long is cut between two characters.
    """
    shown = printable(title).replace("'", "\u2019").lstrip(";").encode()
    room = _MOST_TEXT_BYTES - len(b"StreamTitle='';")
    text = b"StreamTitle='" + shown[:room].decode(errors="ignore").encode() + b"';"
    sixteens = -(-len(text) // 16)
    return bytes([sixteens]) + text.ljust(sixteens * 16, b"\0")


class IcyInterleaver:
    """Puts metadata into one listener's audio, at every METADATA_INTERVAL_BYTES of it exactly."""

    def __init__(self) -> None:
        self._left = METADATA_INTERVAL_BYTES
        self._title: str | None = None

    def interleave(self, audio: bytes, title: str) -> bytes:
        """The audio with the blocks that are due in it; an empty block stands for an unchanged title."""
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
