"""What players are answered, beside the audio."""

from __future__ import annotations

from enum import IntFlag

from voice_streaming.listening.answers import dlna_headers


class DlnaFlag(IntFlag):
    """The primary flags (DLNA guidelines, section 7.4.1.3), as libraries for DLNA have them, GUPnP AV and VLC among
    others."""

    SENDER_PACED = 1 << 31
    LIMITED_SEEK_BY_TIME = 1 << 30
    LIMITED_SEEK_BY_BYTES = 1 << 29
    PLAY_CONTAINER = 1 << 28
    NO_FIXED_BEGINNING = 1 << 27
    NO_FIXED_END = 1 << 26
    RTSP_PAUSE = 1 << 25
    STREAMING = 1 << 24
    INTERACTIVE = 1 << 23
    BACKGROUND = 1 << 22
    CONNECTION_STALLING = 1 << 21
    DLNA_1_5 = 1 << 20


def features(headers: dict[str, str]) -> dict[str, str]:
    return dict(field.split("=") for field in headers["contentFeatures.dlna.org"].split(";"))


def test_a_renderer_is_told_that_the_mp3_is_live() -> None:
    told = features(dlna_headers({"getcontentFeatures.dlna.org": "1"}))
    assert told["DLNA.ORG_PN"] == "MP3"
    assert told["DLNA.ORG_OP"] == "00"  # seeks neither by time nor by bytes
    primary, reserved = told["DLNA.ORG_FLAGS"][:8], told["DLNA.ORG_FLAGS"][8:]
    assert reserved == "0" * 24
    live = DlnaFlag.SENDER_PACED | DlnaFlag.NO_FIXED_BEGINNING | DlnaFlag.NO_FIXED_END
    assert DlnaFlag(int(primary, 16)) == live | DlnaFlag.STREAMING | DlnaFlag.DLNA_1_5


def test_parameters_are_in_the_order_of_the_guidelines() -> None:
    """Section 7.4.1.3: PN, OP, PS, CI, FLAGS; some renderers take no other."""
    told = features(dlna_headers({"getcontentFeatures.dlna.org": "1"}))
    assert list(told) == ["DLNA.ORG_PN", "DLNA.ORG_OP", "DLNA.ORG_CI", "DLNA.ORG_FLAGS"]


def test_only_those_who_ask_are_told() -> None:
    assert dlna_headers({}) == {}
    assert dlna_headers({"getcontentFeatures.dlna.org": "0"}) == {}
    assert dlna_headers({"transferMode.dlna.org": "Streaming"}) == {"transferMode.dlna.org": "Streaming"}
