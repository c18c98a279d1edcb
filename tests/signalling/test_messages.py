from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming.process.refusal import Refused
from voice_streaming.signalling import messages
from voice_streaming.streams.rooms import VoiceIn
from voice_streaming.streams.stream import StreamDetails

CLIENT_TYPES = [
    "start_sending",
    "webrtc_offer",
    "start_receiving",
    "webrtc_answer",
    "ice_candidate",
    "get_available_streams",
    "stop_stream",
    "subscribe_visualization",
    "unsubscribe_visualization",
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["name", "offer", "answer", "candidate", "stream_id", "sdp", "type", "sdpMid", "sdpMLineIndex"]
)


def parsed(text: str) -> str:
    """What became of a text: the name of a message's class, or the code that it was refused with."""
    try:
        message = messages.parse(text)
    except Refused as refused:
        return refused.code
    assert isinstance(message, messages.ClientMessage)
    return type(message).__name__


def refusal(text: str) -> Refused:
    with pytest.raises(Refused) as refused:
        messages.parse(text)
    return refused.value


@given(st.text())
def test_any_text_is_a_message_or_refused(text: str) -> None:
    assert parsed(text) == "bad_message"


@given(json_values)
def test_any_json_is_a_message_or_refused(value: Any) -> None:
    assert parsed(json.dumps(value)) in ("bad_message", "unknown_type")


@given(st.sampled_from(CLIENT_TYPES), st.dictionaries(fields, json_values, max_size=4))
def test_any_fields_of_a_known_message_are_taken_or_refused(kind: str, values: dict[str, Any]) -> None:
    outcome = parsed(json.dumps({**values, "type": kind}))
    assert outcome in ("bad_message", "bad_name") or outcome == kind.title().replace("_", "")


@given(st.text())
def test_any_type_is_known_or_refused_as_unknown(kind: str) -> None:
    if kind not in CLIENT_TYPES:
        assert parsed(json.dumps({"type": kind})) == "unknown_type"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        '"\\ud800"',
        '{"type":"start_sending","name":"\\udfff"}',
        "[]",
        "null",
        "{}",
        '{"type":5}',
        '{"type":null}',
        '{"type":"webrtc_offer"}',
        '{"type":"webrtc_offer","offer":null}',
        '{"type":"webrtc_offer","offer":{"sdp":1,"type":"offer"}}',
        '{"type":"webrtc_offer","offer":{"sdp":"v=0","type":"answer"}}',
        '{"type":"webrtc_answer","answer":{"sdp":"v=0","type":"pranswer"}}',
        '{"type":"ice_candidate"}',
        '{"type":"ice_candidate","candidate":"candidate:1"}',
        '{"type":"start_receiving","stream_id":""}',
        '{"type":"start_receiving","stream_id":7}',
        '{"type":"subscribe_visualization","stream_id":[]}',
    ],
)
def test_a_wrong_message_is_refused(text: str) -> None:
    assert refusal(text).code == "bad_message"


def test_long_fields_are_refused() -> None:
    assert refusal(json.dumps({"type": "start_receiving", "stream_id": "s" * 1024})).code == "bad_message"
    candidate = {"candidate": "c" * 1025}
    assert refusal(json.dumps({"type": "ice_candidate", "candidate": candidate})).code == "bad_message"


def test_a_refusal_is_short_whatever_was_sent() -> None:
    for message in ({"type": "x" * 100_000}, {"type": "webrtc_offer", "offer": {"type": "y" * 100_000, "sdp": ""}}):
        assert len(str(refusal(json.dumps(message)))) < 500


def test_every_message_of_the_protocol_is_parsed() -> None:
    sdp = {"sdp": "v=0\r\n"}
    candidate = {"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
    sent: dict[messages.AnyClientMessage, dict[str, Any]] = {
        messages.StartSending(): {},
        messages.StartSending("kitchen"): {"name": "kitchen"},
        messages.WebrtcOffer(messages.OfferDescription("v=0\r\n", "offer")): {"offer": {**sdp, "type": "offer"}},
        messages.StartReceiving(): {"stream_id": None},
        messages.StartReceiving("kitchen"): {"stream_id": "kitchen"},
        messages.WebrtcAnswer(messages.AnswerDescription("v=0\r\n", "answer")): {"answer": {**sdp, "type": "answer"}},
        messages.IceCandidate(messages.CandidateInit(candidate["candidate"], "0", 0)): {  # type: ignore[arg-type]
            "candidate": {**candidate, "usernameFragment": "abcd"}
        },
        messages.IceCandidate(None): {"candidate": None},
        messages.GetAvailableStreams(): {},
        messages.StopStream(): {},
        messages.SubscribeVisualization("kitchen"): {"stream_id": "kitchen"},
        messages.UnsubscribeVisualization(): {},
    }
    assert {type(message).__struct_config__.tag for message in sent} == set(CLIENT_TYPES)
    for message, values in sent.items():
        kind = type(message).__struct_config__.tag
        assert messages.parse(json.dumps({"type": kind, **values})) == message
        assert messages.parse(json.dumps({**values, "from_a_newer_client": 1, "type": kind})) == message


def test_a_bad_name_is_refused() -> None:
    for name in ("", "a/b", "latest", "x" * 65):
        assert refusal(json.dumps({"type": "start_sending", "name": name})).code == "bad_name"


def test_server_messages_have_the_fields_of_the_protocol() -> None:
    details = StreamDetails("kitchen", "Kitchen", 1.5, 2, 3, "active")
    sent = [
        messages.AvailableStreams(["kitchen"], [details]),
        messages.SenderReady("c", "kitchen", "key"),
        messages.Talking(True, "kitchen", 2, 1),
        messages.Receiving("kitchen", "Kitchen", [VoiceIn("kitchen", "Kitchen")], None),
        messages.RoomForgotten("room:Kitchen"),
        messages.Offer(messages.OfferDescription("v=0", "offer"), "kitchen"),
        messages.Answer(messages.AnswerDescription("v=0", "answer")),
        messages.StreamAvailable("kitchen", "Kitchen"),
        messages.StreamEnded("kitchen", "left"),
        messages.Error("no_stream", "No audio stream available"),
    ]
    texts = [json.loads(message.text) for message in sent]
    assert [(text.pop("type"), sorted(text)) for text in texts] == [
        ("available_streams", ["details", "streams"]),
        ("sender_ready", ["connection_id", "resume", "stream_id"]),
        ("talking", ["listeners", "receivers", "stream_id", "talking"]),
        ("receiving", ["name", "room", "shared", "stream_id", "voices"]),
        ("room_forgotten", ["room"]),
        ("webrtc_offer", ["offer", "stream_id"]),
        ("webrtc_answer", ["answer"]),
        ("stream_available", ["name", "stream_id"]),
        ("stream_ended", ["reason", "stream_id"]),
        ("error", ["code", "message"]),
    ]
    assert texts[0]["details"][0] == {
        "stream_id": "kitchen",
        "name": "Kitchen",
        "started_at": 1.5,
        "receivers": 2,
        "listeners": 3,
        "state": "active",
        "paused": False,
        "via": "",
        "rooms": [],
        "recording": False,
        "node": "",
    }
    assert texts[5]["offer"] == {"sdp": "v=0", "type": "offer"}
