from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.descriptions import browser_sdp
from voice_streaming.process.refusal import Refused
from voice_streaming.rtc import sdp
from voice_streaming.settings.model import WebrtcSettings

OFFERS = ["chromium_audio", "chromium_audio_untrickled", "firefox_audio", "firefox_audio_untrickled"]
MIXED_OFFERS = ["chromium_video_audio_data", "firefox_video_audio_data"]
OPUS_PAYLOAD_TYPES = {"chromium": 111, "firefox": 109}
HOST_CANDIDATE = "1 1 udp 2113937151 127.0.0.1 40000 typ host"


def without(text: str, *starts: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(starts))


def with_lines(text: str, *lines: str) -> str:
    """The description with lines added to its last section."""
    return text + "".join(f"{line}\r\n" for line in lines)


def candidates(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("a=candidate:")]


@pytest.mark.parametrize("name", OFFERS + MIXED_OFFERS)
def test_only_the_opus_section_of_a_browsers_offer_is_taken(name: str) -> None:
    offer = sdp.take_offer(browser_sdp(name))
    original = SessionDescription.parse(browser_sdp(name))
    (section,) = SessionDescription.parse(offer.sdp).media
    (audio,) = (media for media in original.media if media.kind == "audio")
    assert section.kind == "audio"
    assert section.rtp.muxId == audio.rtp.muxId
    assert section.ice is not None
    assert audio.ice is not None
    assert section.ice.usernameFragment == audio.ice.usernameFragment
    assert section.ice.password == audio.ice.password
    assert section.dtls is not None
    assert audio.dtls is not None
    written = [(f.algorithm, f.value.upper()) for f in section.dtls.fingerprints]
    assert written == [(f.algorithm, f.value) for f in audio.dtls.fingerprints]
    assert section.rtcp_mux
    assert [codec.payloadType for codec in section.rtp.codecs] == [OPUS_PAYLOAD_TYPES[name.partition("_")[0]]]
    assert offer.remote.payload_type == OPUS_PAYLOAD_TYPES[name.partition("_")[0]]
    assert [media.kind for media in offer.offer.sections] == [media.kind for media in original.media]


@pytest.mark.parametrize("name", ["chromium_audio", "firefox_audio", *MIXED_OFFERS])
def test_candidates_that_only_mdns_can_resolve_are_left_out(name: str) -> None:
    assert all(".local " in line for line in candidates(browser_sdp(name)))
    taken = sdp.take_offer(browser_sdp(name)).sdp
    assert ".local" not in taken
    assert "end-of-candidates" not in taken, "the client's own checks may still bring the address"


def test_candidates_of_another_bundled_section_are_the_takens_too() -> None:
    video_first = browser_sdp("chromium_video_audio_data").replace(
        "a=setup:actpass\r\na=mid:0", f"a=setup:actpass\r\na=candidate:{HOST_CANDIDATE}\r\na=mid:0"
    )
    assert candidates(sdp.take_offer(video_first).sdp) == [f"a=candidate:{HOST_CANDIDATE}"]


def test_unusable_candidates_are_left_out_and_the_rest_is_bounded() -> None:
    lines = [
        "a=candidate:1 1 tcp 2105458943 127.0.0.1 9 typ host tcptype active",
        "a=candidate:1 2 udp 2113937150 127.0.0.1 40001 typ host",
        "a=candidate:1 1 udp 2113937151 127.0.0.1 70000 typ host",
        "a=candidate:1 1 udp 2113937151 127.0.0.1 0 typ host",
        "a=candidate:1 1 udp 2113937151 AB.LOCAL 40000 typ host",
    ]
    offer = browser_sdp("chromium_audio_untrickled")
    assert candidates(sdp.take_offer(with_lines(offer, *lines)).sdp) == []
    many = [f"a=candidate:1 1 udp 2113937151 127.0.0.1 {40_000 + number} typ host" for number in range(200)]
    assert candidates(sdp.take_offer(with_lines(offer, *many)).sdp) == many[: sdp.MAX_CANDIDATES]


@pytest.mark.parametrize("name", ["chromium_recvonly", "firefox_recvonly"])
def test_an_offer_that_only_receives_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        sdp.take_offer(browser_sdp(name))
    assert refused.value.code == "no_opus"


def test_an_offer_of_g711_only_is_refused() -> None:
    offer = without(browser_sdp("firefox_audio"), "a=rtpmap:109", "a=fmtp:109").replace("SAVPF 109 9 ", "SAVPF 9 ")
    assert "PCMU/8000" in offer
    with pytest.raises(Refused) as refused:
        sdp.take_offer(offer)
    assert refused.value.code == "no_opus"


def test_an_offer_without_direction_sends() -> None:
    """RFC 8866 section 6.7: sendrecv is what a section without an attribute means."""
    taken = sdp.take_offer(without(browser_sdp("chromium_audio"), "a=sendrecv"))
    assert SessionDescription.parse(taken.sdp).media[0].direction == "sendonly"


def test_a_host_name_beside_rtcp_does_not_matter() -> None:
    """Firefox writes one; aiortc reads it but cannot write it."""
    assert "a=rtcp:36574 IN IP4 7d0acc48" in browser_sdp("firefox_audio")
    assert "7d0acc48" not in sdp.take_offer(browser_sdp("firefox_audio")).sdp
    named = browser_sdp("chromium_audio").replace("c=IN IP4 0.0.0.0", "c=IN IP4 voice.example")
    assert "voice.example" not in sdp.take_offer(named).sdp


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("a=ice-ufrag", "ICE user name"),
        ("a=ice-pwd", "ICE user name"),
        ("a=fingerprint", "DTLS fingerprint"),
        ("a=setup", "DTLS fingerprint"),
        ("a=rtcp-mux", "multiplex"),
    ],
)
def test_an_offer_that_lacks_what_a_connection_needs_is_refused(missing: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        sdp.take_offer(without(browser_sdp("chromium_audio"), missing))
    assert refused.value.code == "bad_sdp"


def test_an_unknown_fingerprint_algorithm_is_refused() -> None:
    with pytest.raises(Refused, match="fingerprint"):
        sdp.take_offer(browser_sdp("chromium_audio").replace("fingerprint:sha-256", "fingerprint:md5"))


@settings(max_examples=50)
@given(st.text(), st.integers(min_value=0))
def test_any_text_is_taken_or_refused(text: str, place: int) -> None:
    offer = browser_sdp("firefox_audio")
    place %= len(offer)
    codes = set()
    for candidate in (text, offer[:place] + text + offer[place:], offer[:place] + text):
        for take in (sdp.take_offer, sdp.take_answer):
            try:
                take(candidate)
            except Refused as refused:
                codes.add(refused.code)
    assert codes <= {"bad_sdp", "no_opus"}


@given(st.text())
def test_any_candidate_is_taken_or_refused(text: str) -> None:
    codes = set()
    for candidate in (text, "candidate:" + text, HOST_CANDIDATE + text):
        try:
            sdp.take_candidate(candidate)
        except Refused as refused:
            codes.add(refused.code)
    assert codes <= {"bad_candidate"}


def test_a_trickled_candidate_is_taken_with_and_without_its_prefix() -> None:
    for text in (HOST_CANDIDATE, "candidate:" + HOST_CANDIDATE, "a=candidate:" + HOST_CANDIDATE):
        candidate = sdp.take_candidate(text)
        assert candidate is not None
        assert (candidate.ip, candidate.port, candidate.type) == ("127.0.0.1", 40_000, "host")


@pytest.mark.parametrize(
    "text",
    [
        "1 1 udp 2113937151 382444b1-1434-4cbc-bacb-7897b374efa1.local 33323 typ host generation 0",
        "1 1 tcp 2105458943 127.0.0.1 9 typ host tcptype active",
        "1 2 udp 2113937151 127.0.0.1 40000 typ host",
        "1 1 udp 2113937151 127.0.0.1 65536 typ host",
        "1 1 udp 2113937151 127.0.0.1 -1 typ host",
    ],
)
def test_a_candidate_that_is_of_no_use_is_none(text: str) -> None:
    assert sdp.take_candidate(text) is None


@pytest.mark.parametrize("name", ["chromium_answer", "firefox_answer"])
def test_a_browsers_answer_is_taken(name: str) -> None:
    text, remote = sdp.take_answer(browser_sdp(name))
    assert remote.payload_type == 96
    assert ".local" not in text
    (section,) = SessionDescription.parse(text).media
    assert section.direction == "recvonly"


def test_an_answer_that_would_send_too_is_taken_as_one_that_receives() -> None:
    """aiortc would otherwise start media twice, and the receiver would get every packet twice."""
    for direction in ("a=sendrecv\r\n", ""):
        text, _ = sdp.take_answer(browser_sdp("chromium_answer").replace("a=recvonly\r\n", direction))
        assert SessionDescription.parse(text).media[0].direction == "recvonly"


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
def test_an_answer_that_does_not_receive_is_refused(direction: str) -> None:
    with pytest.raises(Refused) as refused:
        sdp.take_answer(browser_sdp("chromium_answer").replace("a=recvonly", f"a={direction}"))
    assert refused.value.code == "no_opus"


@pytest.mark.parametrize("payload_type", [128, 255, 300, 1 << 40, -1])
def test_a_payload_type_that_fits_no_header_is_refused(payload_type: int) -> None:
    """One receiver's answer must not make a header that cannot be packed: it is packed for all receivers at once."""
    answer = browser_sdp("chromium_answer").replace(":96 ", f":{payload_type} ")
    with pytest.raises(Refused) as refused:
        sdp.take_answer(answer)
    assert refused.value.code in ("bad_sdp", "no_opus")


def test_an_answer_with_two_sections_is_refused() -> None:
    answer = browser_sdp("chromium_answer")
    with pytest.raises(Refused):
        sdp.take_answer(answer + answer[answer.index("m=audio") :].replace("a=mid:0", "a=mid:1"))


@pytest.mark.parametrize("name", OFFERS + MIXED_OFFERS)
def test_the_answer_refuses_the_other_sections_where_they_stand(name: str) -> None:
    offer = sdp.take_offer(browser_sdp(name))
    ours = offer.sdp.replace("a=setup:actpass", "a=setup:active")
    answer = SessionDescription.parse(sdp.write_answer(sdp.Local(ours), offer, WebrtcSettings()))
    original = SessionDescription.parse(browser_sdp(name))
    assert [media.kind for media in answer.media] == [media.kind for media in original.media]
    assert [media.rtp.muxId for media in answer.media] == [media.rtp.muxId for media in original.media]
    assert [media.port > 0 for media in answer.media] == [media.kind == "audio" for media in original.media]
    assert [media.profile for media in answer.media] == [media.profile for media in original.media]
    assert {media.host for media in answer.media if not media.port} <= {"0.0.0.0"}
    (bundle,) = answer.group
    assert bundle.items == [media.rtp.muxId for media in original.media if media.kind == "audio"]


def test_a_second_audio_section_is_refused() -> None:
    first = browser_sdp("chromium_audio")
    second = first[first.index("m=audio") :].replace("a=mid:0", "a=mid:1")
    offer = sdp.take_offer((first + second).replace("BUNDLE 0", "BUNDLE 0 1"))
    answer = SessionDescription.parse(sdp.write_answer(sdp.Local(offer.sdp), offer, WebrtcSettings()))
    assert [(media.rtp.muxId, media.port > 0) for media in answer.media] == [("0", True), ("1", False)]


def test_our_descriptions_ask_for_opus_as_configured() -> None:
    wanted = WebrtcSettings(opus_bitrate_bps=24_000, opus_fec=False, opus_dtx=True, opus_stereo=True)
    offer = sdp.take_offer(browser_sdp("chromium_audio"))
    (opus, *_) = SessionDescription.parse(sdp.write_answer(sdp.Local(offer.sdp), offer, wanted)).media[0].rtp.codecs
    assert opus.parameters == {
        "minptime": 10,
        "useinbandfec": 0,
        "usedtx": "1",
        "stereo": 1,
        "sprop-stereo": "1",
        "maxaveragebitrate": "24000",
    }
    (opus, *_) = SessionDescription.parse(sdp.write_offer(sdp.Local(offer.sdp), WebrtcSettings())).media[0].rtp.codecs
    assert opus.parameters["maxaveragebitrate"] == str(WebrtcSettings().opus_bitrate_bps)
    assert opus.parameters["useinbandfec"] == 1


@pytest.mark.parametrize(
    ("address", "hosts", "used"),
    [
        ("192.168.1.7", [], True),
        ("192.168.1.7", ["192.168.1.2"], True),
        ("192.168.1.7", ["127.0.0.1"], False),
        ("127.0.0.1", ["127.0.0.1"], True),
        ("127.0.0.1", ["192.168.1.2"], False),
        ("127.0.0.1", ["192.168.1.2", "127.0.0.1"], True),
        ("fd00::7", ["192.168.1.2"], False),
        ("fd00::7", ["fd00::2"], True),
    ],
)
def test_a_candidate_that_none_of_our_addresses_reaches_is_none(address: str, hosts: list[str], used: bool) -> None:
    candidate = sdp.take_candidate(f"candidate:1 1 udp 2113937151 {address} 5000 typ host", hosts)
    assert (candidate is not None) == used


# What is of no concern, and what is


OFFER_CASES = json.loads((Path(__file__).parent / "offers.json").read_text())


@pytest.mark.parametrize("case", OFFER_CASES, ids=[case["name"] for case in OFFER_CASES])
def test_what_is_of_no_concern_never_refuses_an_offer(case: dict[str, str]) -> None:
    if case["expect"] == "refused":
        with pytest.raises(Refused):
            sdp.take_offer(case["sdp"])
        return
    offer = sdp.take_offer(case["sdp"])
    assert offer.remote.credentials == sdp.Credentials("uf9q", "kq2m7f0x4d8s1a6h3j5l9z0c")
    answer = sdp.write_answer(sdp.Local(offer.sdp.replace("actpass", "active")), offer, WebrtcSettings())
    assert answer.count("m=") == case["sdp"].count("m=")
    assert ("a=group:BUNDLE mic" in answer) == ("a=group" in case["sdp"])
    assert re.search(r"a=group:BUNDLE\s*\r\n", answer) is None
    assert [line for line in answer.splitlines() if line.startswith("m=audio")] == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "a=candidate:nonsense",
        "a=rtcp-fb:* nonsense",
        "a=ssrc:x",
        "a=rtpmap:nonsense",
        "a=rtcp:x",
        "a=fmtp:111",
        "a=sctp-port:x",
        "a=max-message-size:x",
        "a=fingerprint:md5 00",
        "a=fingerprint:nonsense",
        "c=IN IP4",
        "b=AS:x",
        "x=y",
        "no line at all",
    ],
)
def test_a_line_that_cannot_be_read_is_passed_over(line: str) -> None:
    assert sdp.take_offer(with_lines(browser_sdp("chromium_audio"), line)).remote.payload_type == 111


@pytest.mark.parametrize("other", ["m=text 9 RTP/AVP 98", "m=video 9 UDP/TLS/RTP/SAVPF 1000", "m=audio 9 RTP/AVP 0"])
def test_other_sections_are_refused_as_they_are(other: str) -> None:
    offer = sdp.take_offer(with_lines(browser_sdp("chromium_audio"), other, "a=mid:x", "a=extmap:nonsense"))
    answer = sdp.write_answer(sdp.Local(offer.sdp.replace("actpass", "active")), offer, WebrtcSettings())
    assert other.replace(" 9 ", " 0 ") in answer


def test_a_section_that_the_client_took_back_is_not_taken() -> None:
    offer = browser_sdp("chromium_audio").replace("m=audio 9 ", "m=audio 0 ")
    with pytest.raises(Refused) as refused:
        sdp.take_offer(offer)
    assert refused.value.code == "no_opus"
    assert sdp.take_offer(with_lines(offer, "a=bundle-only")).remote.payload_type == 111


def test_refused_sections_have_what_clients_look_for_in_any_section() -> None:
    offer = sdp.take_offer(browser_sdp("chromium_video_audio_data"))
    ours = offer.sdp.replace("a=setup:actpass", "a=setup:active")
    answer = sdp.write_answer(sdp.Local(ours), offer, WebrtcSettings())
    sections = SessionDescription.parse(answer).media
    assert [media.port for media in sections] == [0, 9, 0]
    assert len({(media.ice.usernameFragment, media.ice.password) for media in sections if media.ice}) == 1
    assert {media.dtls.role for media in sections if media.dtls} == {"client"}
    assert all(media.dtls for media in sections)


def test_a_pause_is_taken_only_from_a_client_that_is_known() -> None:
    paused = browser_sdp("chromium_audio").replace("a=sendrecv", "a=inactive")
    with pytest.raises(Refused):
        sdp.take_offer(paused)
    assert not sdp.take_offer(paused, may_pause=True).is_active


def remote(**changes: str) -> sdp.Remote:
    text = browser_sdp("chromium_audio")
    for name, value in changes.items():
        text = re.sub(f"a={name.replace('_', '-')}:.*", f"a={name.replace('_', '-')}:{value}", text)
    return sdp.take_offer(text).remote


def test_a_further_offer_is_told_by_tls_id_fingerprint_credentials_and_session() -> None:
    print_ = "sha-256 " + ":".join(["11"] * 32)
    known, restarted = remote(), remote(ice_ufrag="new1", ice_pwd="x" * 24)
    other_session = dataclasses.replace(restarted, session=("-", "4711"))
    assert known.is_continued_by(known)
    assert known.is_continued_by(restarted)
    assert known.is_continued_by(dataclasses.replace(known, session=("-", "4711"))), "nothing but the o= line is new"
    assert not known.is_continued_by(other_session)
    assert not known.is_continued_by(remote(fingerprint=print_))
    with_id = dataclasses.replace(known, tls_id="one")
    assert with_id.is_continued_by(dataclasses.replace(other_session, tls_id="one"))
    assert not with_id.is_continued_by(dataclasses.replace(known, tls_id="two"))
