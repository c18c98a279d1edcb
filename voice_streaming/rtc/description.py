"""A session description as lines and attributes (RFC 8866); what it means is `sdp`'s business. No I/O.

aiortc's parser fails at any attribute that it cannot read, of whatever section: this one keeps values as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MEDIA_LINE = re.compile(r"m=(\S+) (\d+)(?:/\d+)? (\S+) (\S.*)")
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass
class Attributes:
    """The `a=` lines of a section or of the session, in order; a flag's value is empty."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]

    def get(self, name: str) -> str | None:
        """The first value, None without one."""
        return next(iter(self.all(name)), None)

    def direction(self) -> str | None:
        """What the section says of it (RFC 8866 section 6.7), None if nothing."""
        return next((key for key, _ in self.lines if key in _DIRECTIONS), None)


@dataclass
class Section:
    """A media section."""

    kind: str
    port: int
    profile: str
    formats: list[str]
    attributes: Attributes = field(default_factory=Attributes)

    @property
    def mid(self) -> str | None:
        return self.attributes.get("mid") or None

    @property
    def is_refused(self) -> bool:
        """Port 0, unless that only says that the section is for the bundle (RFC 9143 section 6)."""
        return self.port == 0 and self.attributes.get("bundle-only") is None


@dataclass
class Description:
    """A session description."""

    origin: str = ""
    attributes: Attributes = field(default_factory=Attributes)
    sections: list[Section] = field(default_factory=list)

    @property
    def bundle(self) -> list[str]:
        """The identification tags of the first bundle (RFC 9143 section 7.2)."""
        groups = (value.split() for value in self.attributes.all("group"))
        return next((words[1:] for words in groups if words[:1] == ["BUNDLE"]), [])

    def section(self, mid: str) -> Section | None:
        return next((section for section in self.sections if section.mid == mid), None)


def parse(text: str) -> Description:
    """Raises ValueError for what is no description, or has a media line that cannot be read.

    Unknown lines are passed over.
    """
    if not text.startswith("v="):
        # RFC 8866 section 5.1: it is the first line.
        raise ValueError("it does not begin with v=")
    description = Description()
    attributes = description.attributes
    for line in text.splitlines():
        if line.startswith("m="):
            match = _MEDIA_LINE.fullmatch(line.strip())
            if match is None:
                raise ValueError("a media line that cannot be read")
            kind, port, profile, formats = match.groups()
            description.sections.append(Section(kind, int(port), profile, formats.split()))
            attributes = description.sections[-1].attributes
        elif line.startswith("a="):
            name, _, value = line[2:].strip().partition(":")
            attributes.lines.append((name, value.strip()))
        elif line.startswith("o=") and not description.sections:
            description.origin = line[2:].strip()
    return description
