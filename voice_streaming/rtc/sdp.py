"""What of a client's session description is taken, and what is asked for in ours; no I/O.

Descriptions are parsed by aiortc. A relay of voices wants one Opus section of what a client offers; the rest is refused
section by section, as RFC 3264 section 6 has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from aiortc import RTCIceCandidate
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import GroupDescription, MediaDescription, SessionDescription, candidate_from_sdp

from ..media.opus import CLOCK_RATE_HZ
from ..process.refusal import Refused
from ..settings.model import WebrtcSettings

MAX_CANDIDATES = 32
"""More than any host has addresses; each may cost a connectivity check."""
PAYLOAD_TYPES = range(128)
"""What seven bits hold (RFC 3550 section 5.1)."""
_DISCARD_PORT = 9
"""The port of media whose address ICE will find (RFC 8840 section 4.1.1)."""


@dataclass(frozen=True)
class TakenOffer:
    """A sender's offer reduced to its Opus section, and what the answer must refuse around it."""

    sdp: str
    sections: list[MediaDescription]
    """All sections of the offer, in order."""
    taken: MediaDescription


def take_offer(text: str, hosts: Sequence[str] = ()) -> TakenOffer:
    """Chooses the first audio section that offers to send Opus. Raises Refused `bad_sdp` or `no_opus`.

    `hosts` are our own addresses: candidates that none of them can reach are left out.
    """
    description = _parse(text)
    section = next((media for media in description.media if _sends_opus(media)), None)
    if section is None:
        raise Refused("no_opus", "The offer has no audio section that sends Opus")
    sections = description.media
    _inherit_transport(section, sections)
    description.media = [section]
    # What it could receive does not matter, and aiortc stumbles over a section that leaves the direction out.
    section.direction = "sendonly"
    return TakenOffer(_clean(description, section, hosts), sections, section)


def take_answer(text: str, hosts: Sequence[str] = ()) -> tuple[str, int]:
    """A receiver's answer, cleaned, and the payload type it gave Opus. Raises Refused `bad_sdp` or `no_opus`.

    `hosts` as for `take_offer`.
    """
    description = _parse(text)
    if len(description.media) != 1 or not _has_opus(description.media[0]):
        raise Refused("no_opus", "The answer does not accept Opus audio")
    section = description.media[0]
    if section.direction not in ("recvonly", "sendrecv", None):
        raise Refused("no_opus", "The answer does not receive audio")
    # We offered to send only, and an answer that sends too would have aiortc start media twice.
    section.direction = "recvonly"
    return _clean(description, section, hosts), opus_payload_type(section.rtp.codecs)


def opus_payload_type(codecs: list[RTCRtpCodecParameters]) -> int:
    """The payload type of Opus among negotiated codecs. Raises Refused `no_opus`."""
    for codec in codecs:
        if _is_opus(codec):
            return int(codec.payloadType or 0)
    raise Refused("no_opus", "Opus was not negotiated")


def finish_answer(text: str, offer: TakenOffer, settings: WebrtcSettings) -> str:
    """Our answer to a sender: asks for Opus as configured and refuses the sections that were not taken."""
    description = SessionDescription.parse(text)
    _ask_for_opus(description.media[0], settings)
    ours = description.media[0]
    description.media = [ours if media is offer.taken else _refusal(media) for media in offer.sections]
    return str(description)


def finish_offer(text: str, settings: WebrtcSettings) -> str:
    """Our offer to a receiver."""
    description = SessionDescription.parse(text)
    _ask_for_opus(description.media[0], settings)
    return str(description)


def take_candidate(text: str, hosts: Sequence[str] = ()) -> RTCIceCandidate | None:
    """A trickled candidate, None for one that is not used. Raises Refused `bad_candidate`."""
    try:
        candidate = candidate_from_sdp(text.removeprefix("a=").removeprefix("candidate:"))
    except Exception as error:  # noqa: BLE001 - the parser raises whatever a hostile text leads it to
        raise Refused("bad_candidate", f"The candidate cannot be read: {type(error).__name__}") from None
    return candidate if _is_usable(candidate, hosts) else None


def _parse(text: str) -> SessionDescription:
    try:
        return SessionDescription.parse(text)
    except Exception as error:  # noqa: BLE001 - the parser raises whatever a hostile text leads it to
        raise Refused("bad_sdp", f"The session description cannot be read: {type(error).__name__}") from None


def _has_opus(media: MediaDescription) -> bool:
    return media.kind == "audio" and any(_is_opus(codec) for codec in media.rtp.codecs)


def _is_opus(codec: RTCRtpCodecParameters) -> bool:
    """Whether this is Opus (RFC 7587) with a payload type that fits a header's seven bits: aiortc takes any number."""
    return (
        codec.mimeType.lower() == "audio/opus"
        and codec.clockRate == CLOCK_RATE_HZ
        and codec.payloadType in PAYLOAD_TYPES
    )


def _sends_opus(media: MediaDescription) -> bool:
    return _has_opus(media) and media.direction in ("sendonly", "sendrecv", None)


def _inherit_transport(section: MediaDescription, sections: list[MediaDescription]) -> None:
    """In a bundle only the first section need carry candidates (RFC 8843 section 7.1.1): the one taken needs them."""
    if not section.ice_candidates:
        section.ice_candidates = [candidate for media in sections for candidate in media.ice_candidates]


def _clean(description: SessionDescription, section: MediaDescription, hosts: Sequence[str]) -> str:
    """The text with one section that is complete, or Refused.

    Names that only mDNS can resolve are left out, as waiting for them takes up to a second, and ICE learns the address
    from the client's own checks anyway. The end of candidates is left out too: those checks may be all that comes.
    """
    ice = section.ice
    if ice is None or not ice.usernameFragment or not ice.password:
        raise Refused("bad_sdp", "The session description has no ICE user name and password")
    if section.dtls is None or not any(
        f.algorithm.lower() in X509_DIGEST_ALGORITHMS for f in section.dtls.fingerprints
    ):
        raise Refused("bad_sdp", "The session description has no DTLS fingerprint or setup role")
    if not section.rtcp_mux:
        raise Refused("bad_sdp", "The session description does not multiplex RTP and RTCP")
    section.ice_candidates = [c for c in section.ice_candidates if _is_usable(c, hosts)][:MAX_CANDIDATES]
    section.ice_candidates_complete = False
    # ICE finds the addresses. Firefox puts a .local name beside `rtcp`, which aiortc reads but cannot write.
    description.host, section.host, section.rtcp_host = None, "0.0.0.0", None
    section.port = _DISCARD_PORT
    # aiortc writes rtcp-mux only beside an rtcp attribute, which not every client sends.
    section.rtcp_port = _DISCARD_PORT
    description.group = [GroupDescription(semantic="BUNDLE", items=[section.rtp.muxId])] if section.rtp.muxId else []
    return str(description)


def _is_usable(candidate: RTCIceCandidate, hosts: Sequence[str]) -> bool:
    # No socket sends to a port out of range: aioice's check would fail with an exception of its own.
    if candidate.protocol.lower() != "udp" or candidate.component != 1 or not 0 < candidate.port < 1 << 16:
        return False
    try:
        address = ip_address(candidate.ip)
    except ValueError:
        return False  # A name: see `_clean`.
    ours = [ip_address(host) for host in hosts] or [address]
    # Loopback reaches loopback, and nothing else does.
    return any(our.version == address.version and our.is_loopback == address.is_loopback for our in ours)


def _refusal(media: MediaDescription) -> MediaDescription:
    """The section with port 0 (RFC 3264 section 6)."""
    refusal = MediaDescription(kind=media.kind, port=0, profile=media.profile, fmt=media.fmt)
    refusal.host = "0.0.0.0"
    refusal.direction = "inactive"
    refusal.rtp.muxId = media.rtp.muxId
    refusal.ice = RTCIceParameters()
    return refusal


def _ask_for_opus(media: MediaDescription, settings: WebrtcSettings) -> None:
    """Says in `fmtp` how we would like Opus (RFC 7587 section 6.1)."""
    for codec in media.rtp.codecs:
        codec.parameters = {
            "minptime": 10,
            "useinbandfec": int(settings.opus_fec),
            "usedtx": int(settings.opus_dtx),
            "stereo": int(settings.opus_stereo),
            "sprop-stereo": int(settings.opus_stereo),
            "maxaveragebitrate": settings.opus_bitrate_bps,
        }
