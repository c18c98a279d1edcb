"""Which scope each message of a client needs."""

from __future__ import annotations

from ..process.refusal import Refused
from ..streams.grants import Grant, Scope
from . import messages

_MEDIA = frozenset({Scope.SEND, Scope.RECEIVE})
_SEND = frozenset({Scope.SEND})
_RECEIVE = frozenset({Scope.RECEIVE})
_MESSAGE_SCOPES: dict[type, frozenset[Scope]] = {
    messages.StartSending: _SEND,
    messages.SetTalking: _SEND,
    messages.WebrtcOffer: _SEND,
    messages.StartReceiving: _RECEIVE,
    messages.WebrtcAnswer: _RECEIVE,
    messages.IceCandidate: _MEDIA,
    messages.GetAvailableStreams: _MEDIA,
    messages.StopStream: _MEDIA,
    messages.SubscribeVisualization: _RECEIVE,
    messages.UnsubscribeVisualization: _MEDIA,
    messages.SubscribeEvents: _MEDIA,
    messages.UnsubscribeEvents: _MEDIA,
}


def check(grant: Grant, message: messages.AnyClientMessage) -> None:
    """Raises Refused `unauthorized` for what the client may not ask; a stream that is left out is not looked at."""
    allowed = _MESSAGE_SCOPES[type(message)]
    if not allowed & grant.scopes:
        names = " or ".join(sorted(scope.value for scope in allowed))
        raise Refused("unauthorized", f"This needs a token with the scope {names}")
    if isinstance(message, messages.StartSending):
        is_covered = grant.covers(message.name)
    else:
        stream_id = getattr(message, "stream_id", None)
        is_covered = stream_id is None or grant.covers(stream_id)
    if not is_covered:
        raise Refused("unauthorized", "The token is for other streams")
