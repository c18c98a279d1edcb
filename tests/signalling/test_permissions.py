from __future__ import annotations

from typing import get_args

import pytest

from voice_streaming.process.refusal import Refused
from voice_streaming.signalling import messages, permissions
from voice_streaming.signalling.permissions import _MESSAGE_SCOPES
from voice_streaming.streams.grants import EVERYTHING, Grant, Scope

MEDIA = frozenset({Scope.SEND, Scope.RECEIVE})


def refused(grant: Grant, message: messages.AnyClientMessage) -> bool:
    try:
        permissions.check(grant, message)
    except Refused as refusal:
        return refusal.code == "unauthorized"
    return False


@pytest.mark.parametrize(
    ("text", "senders_may", "receivers_may"),
    [
        ('{"type": "start_sending"}', True, False),
        ('{"type": "webrtc_offer", "offer": {"type": "offer", "sdp": ""}}', True, False),
        ('{"type": "start_receiving"}', False, True),
        ('{"type": "webrtc_answer", "answer": {"type": "answer", "sdp": ""}}', False, True),
        ('{"type": "ice_candidate", "candidate": null}', True, True),
        ('{"type": "get_available_streams"}', True, True),
        ('{"type": "stop_stream"}', True, True),
        ('{"type": "subscribe_visualization"}', False, True),
        ('{"type": "unsubscribe_visualization"}', True, True),
    ],
)
def test_each_message_needs_its_scope(text: str, senders_may: bool, receivers_may: bool) -> None:
    message = messages.parse(text)
    assert refused(Grant(frozenset({Scope.SEND})), message) is not senders_may
    assert refused(Grant(frozenset({Scope.RECEIVE})), message) is not receivers_may
    assert refused(Grant(frozenset({Scope.ADMIN})), message)
    assert not refused(EVERYTHING, message)


def test_every_message_of_the_protocol_has_its_scopes() -> None:
    assert set(_MESSAGE_SCOPES) == set(get_args(messages.AnyClientMessage))


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ('{"type": "start_sending", "name": "kitchen"}', False),
        ('{"type": "start_sending", "name": " kitchen "}', False),
        ('{"type": "start_sending", "name": "bedroom"}', True),
        ('{"type": "start_sending"}', True),
        ('{"type": "start_receiving", "stream_id": "kitchen"}', False),
        ('{"type": "start_receiving", "stream_id": "bedroom"}', True),
        ('{"type": "start_receiving"}', False),
        ('{"type": "subscribe_visualization", "stream_id": "bedroom"}', True),
    ],
)
def test_a_token_for_some_streams_is_for_no_others(text: str, is_refused: bool) -> None:
    assert refused(Grant(MEDIA, frozenset({"kitchen"})), messages.parse(text)) is is_refused
