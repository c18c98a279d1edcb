"""What servers of a cluster tell each other, by way of Redis.

It comes from other machines, perhaps of another version: what cannot be read is refused, and unknown fields are passed
over.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..streams.names import MAX_NAME_CHARACTERS, name_key

MAX_BYTES = 64 * 1024
"""Of one entry: a node with its rooms is the largest, at some 100 bytes a room."""

NodeId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}$")]
"""Random, a new one at each start."""
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Count = Annotated[int, Meta(ge=0, le=10**9)]


class BadEntry(ValueError):
    """It is no entry."""


class StreamEntry(Struct, frozen=True):
    """A stream of a node, or a name that is held there for a sender that does not talk now."""

    stream_id: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    live: bool = False
    paused: bool = False
    lost: bool = False
    """Its sender is gone, and may come back: others may have the name."""
    started_at: Annotated[float, Meta(ge=0)] = 0.0
    """Unix seconds by the owner's clock; for people alone."""
    rooms: tuple[Name, ...] = ()
    urgent: bool = False
    via: Annotated[str, Meta(max_length=32)] = ""
    recording: bool = False
    ended: Annotated[str, Meta(max_length=200)] = ""
    """Why it is not live any more."""

    @property
    def key(self) -> str:
        return name_key(self.stream_id)


class Lease(Struct, frozen=True):
    """Who has a stream. Of two leases the one with the higher epoch counts, and of equal ones that of the higher id."""

    epoch: int
    """Grows with each claim; about microseconds of Redis' clock, so that one who forgot gives out no lower ones."""
    node: NodeId
    resume: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){0,32}$")]
    """The SHA-256 of the key with which its sender takes it up again, in hexadecimal digits; empty: none."""
    entry: StreamEntry

    @property
    def rank(self) -> tuple[int, str]:
        return self.epoch, self.node

    @property
    def value(self) -> str:
        """As Redis keeps it, and as the scripts read it."""
        return f"{self.epoch}\n{self.node}\n{self.resume}\n{encode(self.entry)}"


class RoomEntry(Struct, frozen=True):
    """Who is in a room, on one node."""

    name: Name
    receivers: Count = 0
    listeners: Count = 0


class AudienceEntry(Struct, frozen=True):
    """Who hears a stream, on one node."""

    stream_id: Annotated[str, Meta(min_length=1, max_length=200)]
    receivers: Count = 0
    listeners: Count = 0


class NodeEntry(Struct, frozen=True):
    """A server of the cluster."""

    id: NodeId
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    url: Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+$", max_length=300)]
    """Where the others reach it."""
    fingerprint: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """The SHA-256 of its TLS certificate; empty: without TLS, or with a certificate that an authority vouches for."""
    version: Annotated[str, Meta(max_length=64)] = ""
    started_at: Annotated[float, Meta(ge=0)] = 0.0
    draining: bool = False
    """It stops soon: its clients are to go elsewhere."""
    receivers: Count = 0
    listeners: Count = 0
    streams: Count = 0
    pulls: Count = 0
    rooms: tuple[RoomEntry, ...] = ()
    audiences: tuple[AudienceEntry, ...] = ()
    """Of the streams that are heard there most, whosever they are."""
    unreachable: tuple[Annotated[str, Meta(max_length=253)], ...] = ()
    """Names of the nodes that it cannot reach."""


EntryT = TypeVar("EntryT", StreamEntry, NodeEntry)


def encode(entry: StreamEntry | NodeEntry) -> str:
    return msgspec.json.encode(entry).decode()


def decode(text: str, kind: type[EntryT]) -> EntryT:
    """Raises BadEntry."""
    if len(text) > MAX_BYTES:
        raise BadEntry("it is too long")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadEntry(str(error)) from None


def is_number(text: str) -> bool:
    """Whether it is a number as scripts write them: digits, and no more of them than a float has."""
    return text.isascii() and text.isdigit() and len(text) < 17


def read_lease(value: str) -> Lease:
    """Raises BadEntry."""
    parts = value.split("\n", 3)
    if len(parts) != 4 or not is_number(parts[0]):
        raise BadEntry("it is no lease")
    epoch, node, resume, text = parts
    try:
        return msgspec.convert(
            {"epoch": int(epoch), "node": node, "resume": resume, "entry": decode(text, StreamEntry)}, Lease
        )
    except msgspec.ValidationError as error:
        raise BadEntry(str(error)) from None
