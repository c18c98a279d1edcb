"""A session description as lines and attributes."""

from __future__ import annotations

import pytest

from voice_streaming.rtc import description
from voice_streaming.rtc.description import Attributes, Section

TEXT = """v=0\r
o=- 123 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:LS 1 0\r
a=group:BUNDLE 0 1\r
a=ice-lite\r
a=sendonly\r
m=audio 9/2 UDP/TLS/RTP/SAVPF 96 0\r
o=not the session's\r
c=IN IP4 0.0.0.0\r
a=mid:0\r
a=rtpmap:96 opus/48000/2\r
a=rtpmap:0  PCMU/8000 \r
a=recvonly\r
a=\r
m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r
a=mid:1\r
a=sctp-port:5000\r
a=an attribute: of whatever kind\r
"""


def test_every_line_is_where_it_stands() -> None:
    parsed = description.parse(TEXT)
    assert parsed.origin == "- 123 2 IN IP4 127.0.0.1"
    assert parsed.attributes.lines == [
        ("group", "LS 1 0"),
        ("group", "BUNDLE 0 1"),
        ("ice-lite", ""),
        ("sendonly", ""),
    ]
    audio, data = parsed.sections
    assert (audio.kind, audio.port, audio.profile, audio.formats) == ("audio", 9, "UDP/TLS/RTP/SAVPF", ["96", "0"])
    assert (data.kind, data.port, data.profile) == ("application", 0, "UDP/DTLS/SCTP")
    assert data.formats == ["webrtc-datachannel"]
    assert audio.attributes.all("rtpmap") == ["96 opus/48000/2", "0  PCMU/8000"]
    assert audio.attributes.lines[-1] == ("", "")
    assert data.attributes.lines[1:] == [("sctp-port", "5000"), ("an attribute", "of whatever kind")]
    assert parsed.section("1") is data
    assert parsed.section("2") is None


def test_a_text_without_anything_is_an_empty_description() -> None:
    parsed = description.parse("v=0\r\n")
    assert (parsed.origin, parsed.attributes.lines, parsed.sections, parsed.bundle) == ("", [], [], [])


@pytest.mark.parametrize("text", ["", "garbage", " v=0\r\n", "m=audio 9 RTP/AVP 0\r\n"])
def test_what_does_not_begin_as_a_description_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not begin with v="):
        description.parse(text)


@pytest.mark.parametrize(
    "line", ["m=", "m=audio", "m=audio nine RTP/AVP 0", "m=audio -9 RTP/AVP 0", "m=audio 9 RTP/AVP "]
)
def test_a_media_line_that_cannot_be_read_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="a media line that cannot be read"):
        description.parse(f"v=0\r\n{line}\r\n")


def test_an_attributes_value_is_the_first_and_a_flags_is_empty() -> None:
    attributes = Attributes([("rtpmap", "96 opus/48000"), ("rtcp-mux", ""), ("rtpmap", "0 PCMU/8000")])
    assert attributes.all("rtpmap") == ["96 opus/48000", "0 PCMU/8000"]
    assert (attributes.get("rtpmap"), attributes.get("rtcp-mux"), attributes.get("mid")) == ("96 opus/48000", "", None)


@pytest.mark.parametrize("direction", ["sendrecv", "sendonly", "recvonly", "inactive"])
def test_a_direction_is_the_first_that_is_said(direction: str) -> None:
    assert Attributes([("mid", "0"), (direction, ""), ("sendrecv", "")]).direction() == direction
    assert Attributes([("mid", direction)]).direction() is None


def test_the_bundle_is_the_first_of_its_kind() -> None:
    assert description.parse(TEXT).bundle == ["0", "1"]
    several = "v=0\na=group:\na=group:LS 0 1\na=group:BUNDLE 2 3\na=group:BUNDLE 4\n"
    assert description.parse(several).bundle == ["2", "3"]
    assert description.parse("v=0\na=group:LS 0 1\n").bundle == []


def section(port: int, *lines: tuple[str, str]) -> Section:
    return Section("audio", port, "UDP/TLS/RTP/SAVPF", ["96"], Attributes(list(lines)))


def test_a_section_has_an_identification_unless_it_is_empty() -> None:
    assert section(9, ("mid", "voice")).mid == "voice"
    assert section(9, ("mid", "")).mid is None
    assert section(9).mid is None


def test_port_0_refuses_a_section_unless_it_is_for_the_bundle() -> None:
    assert [section(port).is_refused for port in (0, 1, 9)] == [True, False, False]
    assert not section(0, ("bundle-only", "")).is_refused
