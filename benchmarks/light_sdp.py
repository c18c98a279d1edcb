"""Session descriptions of a light peer: written as text, and the few lines of the other side's that matter."""

import re
import secrets
from dataclasses import dataclass

_MID_EXTENSION = "urn:ietf:params:rtp-hdrext:sdes:mid"
OPUS_PAYLOAD_TYPE = 111


@dataclass(frozen=True)
class Remote:
    """What the server's description says about where and how to reach it."""

    address: tuple[str, int]
    ice_ufrag: str
    ice_pwd: str
    setup: str
    mid: str
    opus_payload_type: int
    mid_extension: str | None

    @classmethod
    def from_sdp(cls, sdp: str) -> "Remote":
        """Raises ValueError where a line is missing that a peer needs."""
        extension = re.search(rf"^a=extmap:(\d+)(?:/\w+)? {re.escape(_MID_EXTENSION)}", sdp, re.MULTILINE)
        host, port = _find(r"a=candidate:\S+ 1 udp \d+ (127\.\S+) (\d+) typ host", sdp)
        return cls(
            address=(host, int(port)),
            ice_ufrag=_find(r"a=ice-ufrag:(\S+)", sdp)[0],
            ice_pwd=_find(r"a=ice-pwd:(\S+)", sdp)[0],
            setup=_find(r"a=setup:(\w+)", sdp)[0],
            mid=_find(r"a=mid:(\S+)", sdp)[0],
            opus_payload_type=int(_find(r"a=rtpmap:(\d+) opus/48000/2", sdp)[0]),
            mid_extension=extension.group(1) if extension else None,
        )

    def takes_dtls_server_role(self, it_answered: bool) -> bool:
        """Whether the other side is DTLS server: `active` is the client; to `actpass`, a browser answers `active`."""
        if self.setup == "actpass" and it_answered:
            raise ValueError("the server's answer says a=setup:actpass, which RFC 8842 section 5.3 forbids")
        return self.setup != "active"


@dataclass(frozen=True)
class Local:
    """A light peer's own side."""

    port: int
    fingerprint: str
    ice_ufrag: str
    ice_pwd: str
    ssrc: int

    @classmethod
    def random(cls, port: int, fingerprint: str) -> "Local":
        return cls(port, fingerprint, secrets.token_hex(4), secrets.token_hex(12), secrets.randbits(32))

    def answer_to(self, offer: Remote) -> str:
        """A receiver's answer, complete: `recvonly` Opus, bundled, with its one candidate."""
        extensions = [f"a=extmap:{offer.mid_extension} {_MID_EXTENSION}"] if offer.mid_extension else []
        setup = "active" if offer.takes_dtls_server_role(it_answered=False) else "passive"
        return self._sdp(offer.opus_payload_type, offer.mid, setup, ["a=recvonly", *extensions])

    def offer(self) -> str:
        """A sender's offer, complete: `sendonly` Opus."""
        track = [f"a=msid:light {self.ssrc}", f"a=ssrc:{self.ssrc} cname:light", f"a=extmap:4 {_MID_EXTENSION}"]
        return self._sdp(OPUS_PAYLOAD_TYPE, "0", "actpass", ["a=sendonly", *track])

    def offer_to_receive(self) -> str:
        """A player's offer, complete: `recvonly` Opus."""
        return self._sdp(OPUS_PAYLOAD_TYPE, "0", "actpass", ["a=recvonly"])

    def _sdp(self, payload_type: int, mid: str, setup: str, media: list[str]) -> str:
        lines = [
            "v=0",
            f"o=- {self.ssrc} 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            f"a=group:BUNDLE {mid}",
            "a=msid-semantic: WMS *",
            f"m=audio {self.port} UDP/TLS/RTP/SAVPF {payload_type}",
            "c=IN IP4 127.0.0.1",
            "a=rtcp:9 IN IP4 0.0.0.0",
            f"a=candidate:1 1 udp 2130706431 127.0.0.1 {self.port} typ host",
            "a=end-of-candidates",
            f"a=ice-ufrag:{self.ice_ufrag}",
            f"a=ice-pwd:{self.ice_pwd}",
            f"a=fingerprint:sha-256 {self.fingerprint}",
            f"a=setup:{setup}",
            f"a=mid:{mid}",
            "a=rtcp-mux",
            f"a=rtpmap:{payload_type} opus/48000/2",
            f"a=fmtp:{payload_type} minptime=10;useinbandfec=1",
            *media,
        ]
        return "\r\n".join(lines) + "\r\n"


def _find(pattern: str, sdp: str) -> tuple[str, ...]:
    match = re.search(f"^{pattern}", sdp, re.MULTILINE)
    if match is None:
        raise ValueError(f"the server's description has no line like {pattern}")
    return match.groups()
