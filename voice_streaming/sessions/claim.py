"""Who may publish under a name that is in use."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal, Protocol

from ..process.refusal import Refused
from ..rtc import ReceiverPeer, SenderPeer
from ..streams.stream import Stream
from .keys import digest

CHECK_TIMEOUT_S = 1.0
"""How long the holder of a name may take to answer an ICE check. On a LAN it answers in milliseconds; a phone that
sleeps between two packets of Wi-Fi, in some hundred."""


@dataclass(frozen=True)
class Claim:
    """What a client says for itself when it asks to publish."""

    name: str | None = None
    resume: str | None = None
    """The key of the stream, if the client was its sender before."""
    take_over: bool = False
    """Whether to take the stream from another sender."""
    owns_name: bool = False
    """Whether the name is the client's alone: its token names it."""


class Holder(Protocol):
    """The session of whoever has a name."""

    @property
    def peer(self) -> SenderPeer | ReceiverPeer | None: ...


async def check_claim(
    claim: Claim, stream: Stream, holder: Holder | None, policy: Literal["refuse", "replace", "never"]
) -> None:
    """Whether the claim is good for a live stream that another client is the sender of.

    It is with a token that names the stream, with the stream's key, with `take_over` as far as the policy has it, and
    where the holder is gone: its peer is lost, or answers no check within CHECK_TIMEOUT_S. Raises Refused
    `name_taken`.
    """
    if claim.owns_name or has_key(claim, stream):
        return
    if policy == "replace" or (claim.take_over and policy == "refuse"):
        return
    if holder is None or holder.peer is None or not await holder.peer.answers(CHECK_TIMEOUT_S):
        return
    hint = "choose another name" if policy == "never" else "choose another name, or take it over"
    raise Refused("name_taken", f"{stream.name} is in use by another sender: {hint}")


def has_key(claim: Claim, stream: Stream) -> bool:
    """Whether the claim brings the stream's key; compared in constant time."""
    return claim.resume is not None and hmac.compare_digest(digest(claim.resume), stream.resume_digest)
