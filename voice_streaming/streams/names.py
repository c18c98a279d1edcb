"""Names of streams: which ones there may be, and when two of them are the same."""

from __future__ import annotations

import re
import unicodedata

from ..process.refusal import Refused

MAX_NAME_CHARACTERS = 64
MAX_NAME_BYTES = 200
"""In UTF-8: with an ending it is still a file name, of which most file systems take 255 bytes."""

_RESERVED_NAME = re.compile(r"latest|status|stream_.*", re.IGNORECASE)
"""`/stream/latest.mp3` and `/stream/status` are routes; `stream_…` is what streams without a name are called."""
_RESERVED_ENDING = re.compile(r".*\.(mp3|ogg|m3u|json)", re.IGNORECASE)
"""What addresses of streams end with."""

_JOINERS = frozenset("\u200c\u200d")
"""Spelling needs these two invisible characters in Persian, Hindi and other languages (UAX #31 section 2.3)."""
_SYMBOLS = frozenset("+°№")
_UNSAFE = frozenset('/\\:*?"%;')
"""Punctuation with a meaning in addresses, headers or file names that is easily taken for that meaning."""
_BLANK = frozenset("\u115f\u1160\u3164\uffa0")
"""Letters that nobody can see: the fillers of Hangul."""

_KINDS = {
    "Cc": "a control character",
    "Cf": "an invisible character, such as those that change the direction of writing",
    "Cs": "half of a character",
    "Zl": "a line break",
    "Zp": "a line break",
}


def stream_name(text: str) -> str:
    """The name in composed form (NFC) without spaces around it, as it stands in addresses.

    Raises Refused `bad_name` with a sentence that says which character is the matter.
    """
    name = _composed(text[:1024])
    if not name:
        raise Refused("bad_name", "A stream's name needs at least one character that is not a space")
    if len(name) > MAX_NAME_CHARACTERS or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        allowed = f"{MAX_NAME_CHARACTERS} characters and {MAX_NAME_BYTES} bytes in UTF-8"
        raise Refused("bad_name", f"This name is too long: it may have {allowed}")
    for character in name:
        if not _may_stand_in_a_name(character):
            raise Refused("bad_name", f"A stream's name cannot contain {_shown(character)}")
    if name.startswith("."):
        raise Refused("bad_name", f"A stream's name cannot begin with {_shown('.')}")
    if _RESERVED_NAME.fullmatch(name) or _RESERVED_ENDING.fullmatch(name):
        raise Refused("bad_name", f'The name "{name}" is reserved: choose another')
    return name


def name_key(text: str) -> str:
    """The same for all names that mean one stream: compared without case, composed, without spaces around them.

    For any text, also one that is no name. Canonical caseless matching (Unicode section 3.13, D145).
    """
    folded = unicodedata.normalize("NFD", _composed(text)).casefold()
    return unicodedata.normalize("NFC", folded)


def _composed(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    # The wide space of Japanese keyboards and the no-break one look like a space and are one.
    return "".join(" " if unicodedata.category(character) == "Zs" else character for character in text).strip(" ")


def _may_stand_in_a_name(character: str) -> bool:
    """Letters, marks and digits of every script, spaces, and punctuation that is safe wherever names stand."""
    if character in _UNSAFE or character in _BLANK:
        return False
    is_common = character in _SYMBOLS or character in _JOINERS or character == " "
    return is_common or unicodedata.category(character)[0] in "LMNP"


def _shown(character: str) -> str:
    """For a sentence: the character itself only where it can be seen."""
    code = f"U+{ord(character):04X}"
    kind = _KINDS.get(unicodedata.category(character))
    name = unicodedata.name(character, kind or "a character that is not assigned")
    if kind is None and character.isprintable():
        return f'"{character}" ({code} {name})'
    return f"{code} ({name if kind in (None, name) else f'{name}, {kind}'})"
