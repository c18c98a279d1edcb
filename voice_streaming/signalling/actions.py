"""What each message of a client does, and what is answered. All of it is a translation: sessions do the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..sessions.claim import Claim
from ..sessions.publish_session import PublishSession
from ..sessions.sessions import Sessions
from ..sessions.subscribe_session import FollowSession, ReceiveSession
from ..streams.feed import Selection
from ..streams.names import name_key
from ..streams.registry import Streams
from ..streams.rooms import ID_PREFIX, LONGEST_QUIET_S
from ..streams.stream import live_voices
from . import messages
from .client import Client
from .meters import Meters

Action = Callable[[Client, Any], Awaitable[messages.ServerMessage | None]]


class Actions:
    """Each action returns the answer to its client, None where there is none, and raises Refused."""

    def __init__(self, streams: Streams, sessions: Sessions, meters: Meters, tasks: Tasks) -> None:
        self._streams = streams
        self._sessions = sessions
        self._rooms = sessions.rooms
        self._meters = meters
        self._tasks = tasks
        self._by_message: dict[type, Action] = {
            messages.StartSending: self.start_sending,
            messages.SetTalking: self.set_talking,
            messages.WebrtcOffer: self.answer_offer,
            messages.StartReceiving: self.start_receiving,
            messages.WebrtcAnswer: self.accept_answer,
            messages.IceCandidate: self.add_candidate,
            messages.GetAvailableStreams: self.list_streams,
            messages.StopStream: self.stop_stream,
            messages.SubscribeVisualization: self.subscribe_visualization,
            messages.UnsubscribeVisualization: self.unsubscribe_visualization,
            messages.SubscribeEvents: self.subscribe_events,
            messages.UnsubscribeEvents: self.unsubscribe_events,
            messages.SubscribeRooms: self.subscribe_rooms,
            messages.UnsubscribeRooms: self.unsubscribe_rooms,
            messages.SetDoNotDisturb: self.set_do_not_disturb,
        }

    async def act(self, client: Client, message: messages.AnyClientMessage) -> messages.ServerMessage | None:
        return await self._by_message[type(message)](client, message)

    async def start_sending(self, client: Client, message: messages.StartSending) -> messages.SenderReady:
        claim = Claim(message.name, message.resume, message.take_over)
        audience = self._rooms.audience(message.rooms, urgent=message.urgent)
        session = await self._sessions.publish(client, claim, message.talking, audience)
        return messages.SenderReady(client.id, session.stream_id, session.resume_key)

    async def set_talking(self, client: Client, message: messages.SetTalking) -> None:
        if not isinstance(client.session, PublishSession):
            raise Refused("unexpected_talking", "Send start_sending first")
        audience = None
        if message.rooms is not None or message.urgent:
            audience = self._rooms.audience(message.rooms or (), urgent=message.urgent)
        client.session.set_talking(message.talking, audience)

    async def answer_offer(self, client: Client, message: messages.WebrtcOffer) -> messages.Answer:
        if not isinstance(client.session, PublishSession):
            raise Refused("unexpected_offer", "Send start_sending before an offer")
        answer = await client.session.answer(message.offer.sdp)
        return messages.Answer(messages.AnswerDescription(answer, "answer"))

    async def start_receiving(self, client: Client, message: messages.StartReceiving) -> messages.Offer | None:
        if message.is_following:
            await self._follow(client, message)
            return None
        session = await self._sessions.subscribe(client, message.stream_id)
        offer = await session.offer() if session is not None else None
        if session is None or offer is None:
            return None
        return messages.Offer(messages.OfferDescription(offer, "offer"), session.stream_id)

    async def _follow(self, client: Client, message: messages.StartReceiving) -> None:
        room = self._rooms.use(message.room) if message.room is not None else None
        excluded = frozenset(name_key(stream_id) for stream_id in message.excluded)
        await self._offer_selection(
            client, Selection(message.stream_id if room is None else None, client.grant, excluded, room, message.quiet)
        )

    async def _offer_selection(self, client: Client, selection: Selection) -> None:
        session = await self._sessions.follow(client, selection)
        offer = await session.offer() if session is not None else None
        if session is not None and offer is not None:
            client.send(messages.Offer(messages.OfferDescription(offer, "offer"), session.stream_id))
            session.tell()

    async def accept_answer(self, client: Client, message: messages.WebrtcAnswer) -> None:
        if not isinstance(client.session, ReceiveSession):
            raise Refused("unexpected_answer", "There is no offer to answer: send start_receiving first")
        await client.session.accept(message.answer.sdp)

    async def add_candidate(self, client: Client, message: messages.IceCandidate) -> None:
        if client.session is None:
            raise Refused("unexpected_candidate", "There is no offer or answer that the candidate could belong to")
        await client.session.add_candidate(message.candidate.candidate if message.candidate is not None else "")

    async def list_streams(
        self, client: Client, message: messages.GetAvailableStreams | None = None
    ) -> messages.AvailableStreams:
        live = [stream for stream in live_voices(self._streams.active) if client.may_know(stream)]
        return messages.AvailableStreams([stream.id for stream in live], [stream.details() for stream in live])

    async def stop_stream(self, client: Client, message: messages.StopStream) -> None:
        """Ends the client's media and keeps its socket."""
        await self._sessions.release(client, "sender left")

    async def subscribe_visualization(self, client: Client, message: messages.SubscribeVisualization) -> None:
        """Gives the client the stream's `audio_data`, which is worked out once for all who asked.

        For a room's id, that of all it hears there, if it stands in that room.
        """
        if message.stream_id is not None and message.stream_id.startswith(ID_PREFIX):
            session = client.session
            room = self._rooms.find(message.stream_id)
            if not isinstance(session, FollowSession) or room is None or session.selection.room is not room:
                raise Refused("no_room", "Stand in the room first: start_receiving with that room")
            self._meters.subscribe_room(client, room, session.track)
            return
        self._meters.subscribe(client, self._streams.live(message.stream_id, client.grant))

    async def unsubscribe_visualization(self, client: Client, message: messages.UnsubscribeVisualization) -> None:
        """Of one stream, or of all."""
        self._meters.unsubscribe(client, message.stream_id)

    async def subscribe_events(self, client: Client, message: messages.SubscribeEvents) -> None:
        client.event_kinds = messages.EVENT_KINDS if message.kinds is None else frozenset(message.kinds)

    async def unsubscribe_events(self, client: Client, message: messages.UnsubscribeEvents) -> None:
        client.event_kinds = frozenset()

    async def subscribe_rooms(self, client: Client, message: messages.SubscribeRooms) -> messages.RoomList:
        client.watches_rooms = True
        return messages.RoomList([self._rooms.state(room, client.grant) for room in self._rooms.visible(client.grant)])

    async def unsubscribe_rooms(self, client: Client, message: messages.UnsubscribeRooms) -> None:
        client.watches_rooms = False

    async def set_do_not_disturb(self, client: Client, message: messages.SetDoNotDisturb) -> None:
        """For a room, or for the receiver itself, which gets a new offer."""
        if message.room is not None:
            room = self._rooms.find(message.room)
            if room is None:
                raise Refused("no_room", f"There is no room {message.room}")
            self._rooms.do_not_disturb(room, message.until)
            return
        session = client.session
        if not isinstance(session, FollowSession):
            raise Refused(
                "unexpected_do_not_disturb", "Send start_receiving with follow or a room before, or name a room"
            )
        left_s = 0.0 if message.until is None else min(message.until - time.time(), LONGEST_QUIET_S)
        loop = asyncio.get_running_loop()
        client.end_quiet_with(loop.call_later(left_s, self._end_quiet, client) if left_s > 0 else None)
        await self._be_quiet(client, left_s > 0)

    def _end_quiet(self, client: Client) -> None:
        self._tasks.spawn(self._be_quiet(client, False), f"end-quiet-{client.id}")

    async def _be_quiet(self, client: Client, quiet: bool) -> None:
        session = client.session
        if isinstance(session, FollowSession) and quiet != session.selection.quiet:
            await self._offer_selection(client, replace(session.selection, quiet=quiet))
