"""`application/trickle-ice-sdpfrag` (RFC 8840 section 9): the part of a description that ICE is about; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..process.refusal import Refused

CONTENT_TYPE = "application/trickle-ice-sdpfrag"
MAX_CHARACTERS = 16_384
"""Of a fragment: some hundred candidates, more than any host has."""


@dataclass(frozen=True)
class Fragment:
    """What a client sends while it gathers candidates, or restarts ICE."""

    ufrag: str | None
    password: str | None
    candidates: tuple[str, ...]
    """As in `a=candidate:` lines, without that."""
    mid: str | None = None


def parse(text: str) -> Fragment:
    """Reads a fragment: its credentials are those of the session, or of its first section (RFC 8840 section 9.2).

    Lines that are of no concern are skipped. Raises Refused `bad_fragment`.
    """
    if len(text) > MAX_CHARACTERS:
        raise Refused("bad_fragment", f"A fragment has at most {MAX_CHARACTERS} characters")
    values: dict[str, str] = {}
    candidates = []
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if not line.strip():
            continue
        if len(kind) != 1 or not kind.isalpha():
            raise Refused("bad_fragment", "A line of the fragment is no line of a session description")
        name, _, value = value.partition(":")
        if kind == "a" and name == "candidate":
            candidates.append(value)
        elif kind == "a":
            values.setdefault(name, value)
    fragment = Fragment(values.get("ice-ufrag"), values.get("ice-pwd"), tuple(candidates), values.get("mid"))
    if fragment.ufrag is None and not candidates and "end-of-candidates" not in values:
        raise Refused("bad_fragment", "The fragment has neither credentials nor candidates")
    return fragment


def write(ufrag: str, password: str, candidates: Sequence[str], mid: str | None) -> str:
    """Our credentials and all of our candidates, for the section that the client named, or the first one."""
    lines = [
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{password}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        f"a=mid:{mid or '0'}",
        *(f"a=candidate:{candidate}" for candidate in candidates),
        "a=end-of-candidates",
    ]
    return "".join(f"{line}\r\n" for line in lines)
