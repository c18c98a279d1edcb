"""Signalling messages as types; text to message, message to text; no I/O.

Field names and values are those of the wire protocol and are never renamed or dropped. Fields that a client sends and
nobody here knows are ignored, so that newer clients work with older servers.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from ..process.refusal import Refused
from ..streams.names import stream_name
from ..streams.rooms import RoomState, VoiceIn
from ..streams.stream import StreamDetails

MAX_STREAM_ID_LENGTH = 128
MAX_ROOMS = 32
"""Rooms that one voice may be for."""
MAX_EXCLUDED = 16
"""Streams that one receiver may exclude: those of its own page, and some to spare."""


class OfferDescription(Struct, frozen=True):
    """An `RTCSessionDescriptionInit` (W3C WebRTC 4.2.5) that is an offer."""

    sdp: str
    type: Literal["offer"]


class AnswerDescription(Struct, frozen=True):
    sdp: str
    type: Literal["answer"]


class CandidateInit(Struct, frozen=True, rename="camel"):
    """An `RTCIceCandidateInit` (W3C WebRTC 4.8.1); an empty `candidate` means the end of candidates."""

    candidate: Annotated[str, Meta(max_length=1024)]
    sdp_mid: Annotated[str, Meta(max_length=64)] | None = None
    sdp_m_line_index: int | None = msgspec.field(name="sdpMLineIndex", default=None)


StreamId = Annotated[str, Meta(min_length=1, max_length=MAX_STREAM_ID_LENGTH)]


RoomName = Annotated[str, Meta(min_length=1, max_length=MAX_STREAM_ID_LENGTH)]
"""The room's name or its id, `room:Kitchen`."""
Rooms = Annotated[tuple[RoomName, ...], Meta(max_length=MAX_ROOMS)]


class ClientMessage(Struct, frozen=True, tag_field="type"):
    pass


class StartSending(ClientMessage, frozen=True, tag="start_sending"):
    name: str | None = None
    resume: Annotated[str, Meta(max_length=256)] | None = None
    """The key that `sender_ready` gave with this stream."""
    take_over: bool = False
    """Also where another holds the name."""
    talking: bool | None = None
    """False: nothing is heard until `set_talking`."""
    rooms: Rooms = ()
    """Whom the voice is for; none: everyone."""
    urgent: bool = False
    """Also for those who do not want to be disturbed."""


class SetTalking(ClientMessage, frozen=True, tag="set_talking"):
    """Push to talk, on a connection that stays."""

    talking: bool
    rooms: Rooms | None = None
    """As in `start_sending`; None: as before."""
    urgent: bool = False


class WebrtcOffer(ClientMessage, frozen=True, tag="webrtc_offer"):
    offer: OfferDescription


class StartReceiving(ClientMessage, frozen=True, tag="start_receiving"):
    stream_id: StreamId | None = None
    follow: bool = False
    """One connection that is fed what was asked for whenever it is there."""
    excluded: Annotated[frozenset[StreamId], Meta(max_length=MAX_EXCLUDED)] = msgspec.field(
        name="except", default=frozenset()
    )
    """Of a follower: which streams it is not to hear."""
    room: RoomName | None = None
    """Where the receiver stands: it follows all voices there."""
    quiet: bool = False
    """Of one that follows: it hears urgent voices only."""

    @property
    def is_following(self) -> bool:
        return self.follow or self.room is not None


class WebrtcAnswer(ClientMessage, frozen=True, tag="webrtc_answer"):
    answer: AnswerDescription


class IceCandidate(ClientMessage, frozen=True, tag="ice_candidate"):
    candidate: CandidateInit | None


class GetAvailableStreams(ClientMessage, frozen=True, tag="get_available_streams"):
    pass


class StopStream(ClientMessage, frozen=True, tag="stop_stream"):
    pass


class SubscribeVisualization(ClientMessage, frozen=True, tag="subscribe_visualization"):
    stream_id: StreamId | None = None


class UnsubscribeVisualization(ClientMessage, frozen=True, tag="unsubscribe_visualization"):
    stream_id: StreamId | None = None


EventKind = Literal[
    "live",
    "paused",
    "resumed",
    "ended",
    "recording_started",
    "recording_ended",
    "recording_failed",
    "recording_deleted",
]
EVENT_KINDS: frozenset[str] = frozenset(get_args(EventKind))


class SubscribeEvents(ClientMessage, frozen=True, tag="subscribe_events"):
    """Asks for events of these kinds, all without `kinds`; it replaces what was subscribed to before."""

    kinds: frozenset[EventKind] | None = None


class UnsubscribeEvents(ClientMessage, frozen=True, tag="unsubscribe_events"):
    pass


class SubscribeRooms(ClientMessage, frozen=True, tag="subscribe_rooms"):
    """Asks for `rooms` now, and for `room_changed`."""


class UnsubscribeRooms(ClientMessage, frozen=True, tag="unsubscribe_rooms"):
    pass


class SetDoNotDisturb(ClientMessage, frozen=True, tag="set_do_not_disturb"):
    """Only urgent voices are heard: in that room, or at this receiver."""

    room: RoomName | None = None
    until: float | None = None
    """Unix seconds; None ends it."""


AnyClientMessage = (
    StartSending
    | SetTalking
    | WebrtcOffer
    | StartReceiving
    | WebrtcAnswer
    | IceCandidate
    | GetAvailableStreams
    | StopStream
    | SubscribeVisualization
    | UnsubscribeVisualization
    | SubscribeEvents
    | UnsubscribeEvents
    | SubscribeRooms
    | UnsubscribeRooms
    | SetDoNotDisturb
)

_decoder = msgspec.json.Decoder(AnyClientMessage)


def parse(text: str) -> AnyClientMessage:
    """The client's message that `text` is. Raises Refused with code `bad_message` or `unknown_type`."""
    try:
        message: AnyClientMessage = _decoder.decode(text)
    except msgspec.ValidationError as error:
        reason = str(error)
        code = "unknown_type" if "Invalid value" in reason and reason.endswith("`$.type`") else "bad_message"
        raise Refused(code, _brief(reason)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused("bad_message", f"not JSON: {error}") from None
    if isinstance(message, StartSending) and message.name is not None:
        return msgspec.structs.replace(message, name=stream_name(message.name))
    return message


def _brief(reason: str) -> str:
    """The reason without the middle of a long value that it quotes: the client knows what it sent."""
    return reason if len(reason) <= 200 else f"{reason[:120]}...{reason[-60:]}"


class ServerMessage(Struct, frozen=True, tag_field="type"):
    @property
    def text(self) -> str:
        """As it goes on the wire."""
        return msgspec.json.encode(self).decode()


class AvailableStreams(ServerMessage, frozen=True, tag="available_streams"):
    streams: list[str]
    details: list[StreamDetails]


class SenderReady(ServerMessage, frozen=True, tag="sender_ready"):
    connection_id: str
    stream_id: str
    resume: str
    """Takes the stream up again, from another connection as well."""


class Talking(ServerMessage, frozen=True, tag="talking"):
    """To a sender that knows the difference: whether its stream is live, and who gets it."""

    talking: bool
    stream_id: str
    receivers: int
    listeners: int


class Receiving(ServerMessage, frozen=True, tag="receiving"):
    """To a follower: what it is fed now."""

    stream_id: str | None
    """The newest voice's."""
    name: str | None
    voices: list[VoiceIn]
    """All that are heard, the newest last."""
    room: str | None
    """The id of the room that it stands in."""
    shared: bool = False
    """What it asked not to hear (`except`), such as its own voice, is heard as well: there are too many mixes."""


class RoomList(ServerMessage, frozen=True, tag="rooms"):
    """All rooms that the client may know of."""

    rooms: list[RoomState]


class RoomChanged(ServerMessage, frozen=True, tag="room_changed"):
    """To those who subscribed."""

    room: RoomState


class RoomForgotten(ServerMessage, frozen=True, tag="room_forgotten"):
    """The same: nobody used it for long."""

    room: str


class Offer(ServerMessage, frozen=True, tag="webrtc_offer"):
    offer: OfferDescription
    stream_id: str | None
    """None for a follower while nobody is heard."""


class Answer(ServerMessage, frozen=True, tag="webrtc_answer"):
    answer: AnswerDescription


class StreamMessage(ServerMessage, frozen=True):
    """What becomes of a stream, which all sockets are told."""

    stream_id: str


class StreamAvailable(StreamMessage, frozen=True, tag="stream_available"):
    name: str


class StreamPaused(StreamMessage, frozen=True, tag="stream_paused"):
    """The sender is silent or lost; `stream_resumed` or `stream_ended` follows."""


class StreamResumed(StreamMessage, frozen=True, tag="stream_resumed"):
    pass


class StreamEnded(StreamMessage, frozen=True, tag="stream_ended"):
    reason: str


class ServerMoving(ServerMessage, frozen=True, tag="server_moving"):
    """In a cluster: this server stops soon, and the client is to connect anew, at once, to whichever answers."""


class Event(ServerMessage, frozen=True, tag="event", omit_defaults=True):
    """What became of a stream, for those who subscribed."""

    kind: EventKind
    stream_id: str
    at: float
    """Unix seconds."""
    name: str | None = None
    """Of a stream that is live now."""
    reason: str | None = None
    """Of an end, or a failure."""
    recording: str | None = None
    """The recording's id."""


class Error(ServerMessage, frozen=True, tag="error"):
    code: str
    message: str
