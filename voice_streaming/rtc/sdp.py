"""What of a client's session description is taken, and what is asked for in ours; no I/O.

A relay of voices wants one Opus section of what a client describes, and of that only what a connection needs: this
alone is given to aiortc. Other sections are refused one by one, as RFC 3264 section 6 has it, and read no further.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from aiortc import RTCIceCandidate
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.rtp import FORBIDDEN_PAYLOAD_TYPES
from aiortc.sdp import (
    DTLS_ROLE_SETUP,
    DTLS_SETUP_ROLE,
    MediaDescription,
    SessionDescription,
    candidate_from_sdp,
    candidate_to_sdp,
)

from ..media.opus import CLOCK_RATE_HZ
from ..process.refusal import Refused
from ..settings.model import WebrtcSettings
from . import description
from .description import Description, Section

MAX_CANDIDATES = 32
"""More than any host has addresses; each may cost a connectivity check."""
PAYLOAD_TYPES = range(128)
"""What seven bits hold (RFC 3550 section 5.1)."""
_DISCARD_PORT = 9
"""The port of media whose address ICE will find (RFC 8840 section 4.1.1)."""
_OPUS = re.compile(rf"(\d+) opus/{CLOCK_RATE_HZ}(/\d+)?", re.IGNORECASE)
_NO_ORIGIN = "- 0 0 IN IP4 0.0.0.0"


@dataclass(frozen=True)
class Credentials:
    """An ICE user name fragment and password (RFC 8839 section 5.4)."""

    ufrag: str
    password: str


@dataclass(frozen=True)
class Remote:
    """The client's end of a connection, as its description has it."""

    session: tuple[str, ...]
    """User name and session identifier of the o= line: the same in every description of a connection."""
    tls_id: str | None
    """Of the DTLS association (RFC 8842 section 4), where the client gives one."""
    fingerprints: frozenset[tuple[str, str]]
    """Algorithm and value, in lower case."""
    credentials: Credentials
    is_lite: bool
    candidates: tuple[RTCIceCandidate, ...]
    payload_type: int
    """That of Opus."""

    def is_continued_by(self, other: Remote) -> bool:
        """Whether a further description is of the same connection, so that its DTLS association goes on.

        The fingerprint alone does not tell: certificates are used again. Nor does the o= line: some clients write a
        new one each time, but their ICE credentials tell that nothing began anew.
        """
        if self.tls_id and other.tls_id:
            return self.tls_id == other.tls_id
        if not self.fingerprints & other.fingerprints:
            return False
        return self.credentials == other.credentials or self.session == other.session

    def with_credentials(self, credentials: Credentials) -> Remote:
        return replace(self, credentials=credentials)


@dataclass(frozen=True)
class TakenOffer:
    """A client's offer reduced to its Opus section, and what the answer must refuse around it."""

    sdp: str
    """For aiortc."""
    offer: Description
    taken: Section
    remote: Remote
    is_active: bool
    """Whether media may flow; False where the client paused it (RFC 3264 section 8.4)."""


def take_offer(text: str, hosts: Sequence[str] = (), *, sends: bool = True, may_pause: bool = False) -> TakenOffer:
    """Chooses the first audio section in which the client offers to send Opus, or to receive it if not `sends`.

    With `may_pause` a section with Opus that does neither will do where there is none. `hosts` are our own addresses:
    candidates that none of them can reach are left out. Raises Refused `bad_sdp` or `no_opus`.
    """
    offer = _parse(text)
    usable = [section for section in offer.sections if _opus_of(section) is not None and not section.is_refused]
    active = [section for section in usable if _direction(offer, section) in _directions(sends)]
    chosen = active or (usable if may_pause else [])
    if not chosen:
        raise Refused("no_opus", f"The offer has no audio section that {'sends' if sends else 'receives'} Opus")
    section = chosen[0]
    # What else the client could do with it does not matter.
    reduced, remote = _reduce(offer, section, hosts, "sendonly" if sends else "recvonly")
    return TakenOffer(reduced, offer, section, remote, bool(active))


def take_answer(text: str, hosts: Sequence[str] = (), *, sends: bool = False) -> tuple[str, Remote]:
    """A client's answer reduced to what aiortc needs of it. Raises Refused `bad_sdp` or `no_opus`.

    `hosts` and `sends` as for `take_offer`.
    """
    answer = _parse(text)
    if len(answer.sections) != 1 or answer.sections[0].is_refused or _opus_of(answer.sections[0]) is None:
        raise Refused("no_opus", "The answer does not accept Opus audio")
    section = answer.sections[0]
    if _direction(answer, section) not in _directions(sends):
        raise Refused("no_opus", f"The answer does not {'send' if sends else 'receive'} audio")
    # An answer that does both would have aiortc start media twice.
    return _reduce(answer, section, hosts, "sendonly" if sends else "recvonly")


def read_candidates(texts: Sequence[str], hosts: Sequence[str] = ()) -> list[RTCIceCandidate]:
    """Those of the candidates that are of use, at most MAX_CANDIDATES; what cannot be read is left out."""
    usable = []
    for text in texts:
        try:
            candidate = take_candidate(text, hosts)
        except Refused:
            continue  # One candidate of many: the others may do.
        if candidate is not None:
            usable.append(candidate)
    return usable[:MAX_CANDIDATES]


def take_candidate(text: str, hosts: Sequence[str] = ()) -> RTCIceCandidate | None:
    """A trickled candidate, None for one that is not used. Raises Refused `bad_candidate`.

    Names that only mDNS can resolve are left out, as waiting for them takes up to a second, and ICE learns the address
    from the client's own checks anyway.
    """
    try:
        candidate = candidate_from_sdp(text.removeprefix("a=").removeprefix("candidate:"))
    except Exception as error:  # noqa: BLE001 - the parser raises whatever a hostile text leads it to
        raise Refused("bad_candidate", f"The candidate cannot be read: {type(error).__name__}") from None
    return candidate if _is_usable(candidate, hosts) else None


def _parse(text: str) -> Description:
    try:
        return description.parse(text)
    except ValueError as error:
        raise Refused("bad_sdp", f"The session description cannot be read: {error}") from None


def _directions(sends: bool) -> tuple[str, str]:
    return ("sendonly" if sends else "recvonly", "sendrecv")


def _direction(whole: Description, section: Section) -> str:
    """RFC 8866 section 6.7: what the section says, else the session, else both."""
    return section.attributes.direction() or whole.attributes.direction() or "sendrecv"


def _opus_of(section: Section) -> int | None:
    """The payload type of Opus (RFC 7587), None without one."""
    if section.kind != "audio":
        return None
    for value in section.attributes.all("rtpmap"):
        match = _OPUS.fullmatch(value)
        if match is not None and match[1] in section.formats:
            number = int(match[1])
            if number in PAYLOAD_TYPES and number not in FORBIDDEN_PAYLOAD_TYPES:
                return number
    return None


@dataclass(frozen=True)
class _Transport:
    """Where a section's transport attributes stand: in itself, in the first of its bundle, or in the session.

    RFC 9143 section 7.1.3: the other sections of a bundle need not repeat them.
    """

    levels: list[description.Attributes]

    def all(self, name: str) -> list[str]:
        return next((values for level in self.levels if (values := level.all(name))), [])

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


def _transport_of(whole: Description, section: Section) -> _Transport:
    levels = [section.attributes]
    bundle = whole.bundle
    if section.mid in bundle:
        levels += [other.attributes for mid in bundle if (other := whole.section(mid)) is not None]
    return _Transport([*levels, whole.attributes])


def _reduce(whole: Description, section: Section, hosts: Sequence[str], direction: str) -> tuple[str, Remote]:
    """The text with one section that is complete, or Refused.

    The end of candidates is left out: the client's own checks may be all that comes.
    """
    transport = _transport_of(whole, section)
    remote = _read_remote(whole, section, transport, hosts)
    setup = transport.get("setup")
    if setup not in DTLS_SETUP_ROLE or not remote.fingerprints:
        raise Refused("bad_sdp", "The session description has no DTLS fingerprint or setup role")
    if transport.get("rtcp-mux") is None:
        raise Refused("bad_sdp", "The session description does not multiplex RTP and RTCP")
    lines = [
        "v=0",
        f"o={_NO_ORIGIN}",
        "s=-",
        "t=0 0",
        *(["a=ice-lite"] if remote.is_lite else []),
        *([f"a=group:BUNDLE {section.mid}"] if section.mid else []),
        f"m=audio {_DISCARD_PORT} UDP/TLS/RTP/SAVPF {remote.payload_type}",
        "c=IN IP4 0.0.0.0",
        f"a={direction}",
        *([f"a=mid:{section.mid}"] if section.mid else []),
        f"a=rtcp:{_DISCARD_PORT} IN IP4 0.0.0.0",
        "a=rtcp-mux",
        f"a=rtpmap:{remote.payload_type} opus/{CLOCK_RATE_HZ}/2",
        *(f"a=candidate:{candidate_to_sdp(candidate)}" for candidate in remote.candidates),
        f"a=ice-ufrag:{remote.credentials.ufrag}",
        f"a=ice-pwd:{remote.credentials.password}",
        *(f"a=fingerprint:{algorithm} {value}" for algorithm, value in sorted(remote.fingerprints)),
        f"a=setup:{setup}",
    ]
    return "".join(f"{line}\r\n" for line in lines), remote


def _read_remote(whole: Description, section: Section, transport: _Transport, hosts: Sequence[str]) -> Remote:
    ufrag, password = transport.get("ice-ufrag"), transport.get("ice-pwd")
    if not ufrag or not password or len(ufrag.split()) != 1 or len(password.split()) != 1:
        raise Refused("bad_sdp", "The session description has no ICE user name and password")
    fingerprints = [tuple(value.lower().split()) for value in transport.all("fingerprint")]
    return Remote(
        session=tuple(whole.origin.split()[:2]),
        tls_id=transport.get("tls-id"),
        fingerprints=frozenset(
            (words[0], words[1]) for words in fingerprints if len(words) == 2 and words[0] in X509_DIGEST_ALGORITHMS
        ),
        credentials=Credentials(ufrag, password),
        is_lite=whole.attributes.get("ice-lite") is not None,
        candidates=tuple(read_candidates(transport.all("candidate"), hosts)),
        payload_type=_opus_of(section) or 0,
    )


def _is_usable(candidate: RTCIceCandidate, hosts: Sequence[str]) -> bool:
    # No socket sends to a port out of range: aioice's check would fail with an exception of its own.
    if candidate.protocol.lower() != "udp" or candidate.component != 1 or not 0 < candidate.port < 1 << 16:
        return False
    try:
        address = ip_address(candidate.ip)
    except ValueError:
        return False  # A name: see `take_candidate`.
    ours = [ip_address(host) for host in hosts] or [address]
    # Loopback reaches loopback, and nothing else does.
    return any(our.version == address.version and our.is_loopback == address.is_loopback for our in ours)


@dataclass
class Local:
    """What changes of our own section from one description to the next; the rest is as aiortc wrote it at first."""

    text: str
    """aiortc's description."""
    credentials: Credentials | None = None
    """As aiortc wrote them, if None."""
    candidates: Sequence[RTCIceCandidate] = ()
    setup: str = ""
    """As aiortc wrote it, if empty."""
    version: int = 0
    """How many descriptions came before."""

    def write(self, settings: WebrtcSettings) -> SessionDescription:
        written = SessionDescription.parse(self.text)
        section = written.media[0]
        assert section.ice is not None
        if self.credentials is not None:
            section.ice.usernameFragment, section.ice.password = self.credentials.ufrag, self.credentials.password
            section.ice_candidates = list(self.candidates)
        if self.setup and section.dtls is not None:
            section.dtls.role = DTLS_SETUP_ROLE[self.setup]
        user, session, version, *rest = (written.origin or _NO_ORIGIN).split()
        written.origin = " ".join([user, session, str(int(version) + self.version), *rest])
        _ask_for_opus(written, settings)
        return written


def write_offer(local: Local, settings: WebrtcSettings) -> str:
    """Our offer to a client."""
    return str(local.write(settings))


def write_answer(local: Local, offer: TakenOffer, settings: WebrtcSettings, tls_id: str = "") -> str:
    """Our answer to a client: asks for Opus as configured and refuses the sections that were not taken.

    `tls_id` is told to clients that tell theirs (RFC 8842 section 5.3).
    """
    answer = local.write(settings)
    ours = answer.media[0]
    ours.rtp.muxId = offer.taken.mid or ""
    ours.fmt = [offer.remote.payload_type]
    for codec in ours.rtp.codecs:
        codec.payloadType = offer.remote.payload_type
    answer.group = [group for group in answer.group if group.semantic != "BUNDLE"]
    if not offer.is_active:
        ours.direction = "inactive"
    answer.media = []
    head = str(answer)
    if ours.rtp.muxId and offer.offer.bundle:
        head += f"a=group:BUNDLE {ours.rtp.muxId}\r\n"
    accepted = str(ours)
    if tls_id and offer.remote.tls_id:
        accepted += f"a=tls-id:{tls_id}\r\n"
    sections = [accepted if section is offer.taken else _refuse(section, ours) for section in offer.offer.sections]
    return head + "".join(sections)


def _refuse(section: Section, ours: MediaDescription) -> str:
    """The section with port 0 (RFC 3264 section 6).

    What transport and codecs stand in it is for clients that read a refused section as any other: aiortc does.
    """
    assert ours.ice is not None
    assert ours.dtls is not None
    is_media = section.kind in ("audio", "video")
    lines = [
        f"m={section.kind} 0 {section.profile} {' '.join(section.formats)}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
        *([f"a=mid:{section.mid}"] if section.mid else []),
        f"a=ice-ufrag:{ours.ice.usernameFragment}",
        f"a=ice-pwd:{ours.ice.password}",
        *(f"a=fingerprint:{print_.algorithm} {print_.value}" for print_ in ours.dtls.fingerprints),
        f"a=setup:{DTLS_ROLE_SETUP[ours.dtls.role]}",
        *(["a=rtcp-mux"] if is_media else []),
        *(f"a=rtpmap:{value}" for value in section.attributes.all("rtpmap") if is_media),
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _ask_for_opus(written: SessionDescription, settings: WebrtcSettings) -> None:
    """Says in `fmtp` how we would like Opus (RFC 7587 section 6.1)."""
    for codec in written.media[0].rtp.codecs:
        codec.parameters = {
            "minptime": 10,
            "useinbandfec": int(settings.opus_fec),
            "usedtx": int(settings.opus_dtx),
            "stereo": int(settings.opus_stereo),
            "sprop-stereo": int(settings.opus_stereo),
            "maxaveragebitrate": settings.opus_bitrate_bps,
        }
