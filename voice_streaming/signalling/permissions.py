"""Which scope each message of a client needs."""

from __future__ import annotations

from ..process.refusal import Refused
from ..streams.grants import Grant, Scope
from ..streams.names import name_key
from ..streams.rooms import EVERYONE_KEY, bare_name
from . import messages

_MEDIA = frozenset({Scope.SEND, Scope.RECEIVE})
_NEWS = _MEDIA | {Scope.RECORDINGS, Scope.ADMIN}
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
    messages.SubscribeEvents: _NEWS,
    messages.UnsubscribeEvents: _NEWS,
    messages.SubscribeRooms: _MEDIA,
    messages.UnsubscribeRooms: _MEDIA,
    messages.SetDoNotDisturb: _RECEIVE,
}


def check(grant: Grant, message: messages.AnyClientMessage) -> None:
    """Raises Refused `unauthorized` for what the client may not ask; a stream that is left out is not looked at."""
    allowed = _MESSAGE_SCOPES[type(message)]
    if not allowed & grant.scopes:
        names = " or ".join(sorted(scope.value for scope in allowed))
        raise Refused("unauthorized", f"This needs a token with the scope {names}")
    if not _covers_streams(grant, message):
        raise Refused("unauthorized", "The token is for other streams")
    if not _covers_rooms(grant, message):
        raise Refused("unauthorized", "The token is for other rooms")


def _covers_streams(grant: Grant, message: messages.AnyClientMessage) -> bool:
    if isinstance(message, messages.StartSending):
        return grant.covers(message.name)
    stream_id = getattr(message, "stream_id", None)
    # A voice for rooms is its listeners' as its rooms are; whether it is one is known where it is looked up.
    return stream_id is None or grant.covers(stream_id) or grant.rooms is not None


def _covers_rooms(grant: Grant, message: messages.AnyClientMessage) -> bool:
    if isinstance(message, messages.StartSending | messages.SetTalking):
        rooms = message.rooms
        if rooms == ():
            # For everyone. A grant for streams alone is for these wherever they are heard.
            return grant.rooms is None or grant.covers_room(EVERYONE_KEY)
    else:
        room = getattr(message, "room", None)
        rooms = None if room is None else (room,)
    return all(grant.covers_room(name_key(bare_name(room))) for room in rooms or ())
