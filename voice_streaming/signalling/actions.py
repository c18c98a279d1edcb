"""What each message of a client does, and what is answered. All of it is a translation: sessions do the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..process.refusal import Refused
from ..sessions.claim import Claim
from ..sessions.publish_session import PublishSession
from ..sessions.sessions import Sessions
from ..sessions.subscribe_session import ReceiveSession
from ..streams.registry import Streams
from ..streams.stream import live_streams
from . import messages
from .client import Client
from .meters import Meters

Action = Callable[[Client, Any], Awaitable[messages.ServerMessage | None]]


class Actions:
    """Each action returns the answer to its client, None where there is none, and raises Refused."""

    def __init__(self, streams: Streams, sessions: Sessions, meters: Meters) -> None:
        self._streams = streams
        self._sessions = sessions
        self._meters = meters
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
        }

    async def act(self, client: Client, message: messages.AnyClientMessage) -> messages.ServerMessage | None:
        return await self._by_message[type(message)](client, message)

    async def start_sending(self, client: Client, message: messages.StartSending) -> messages.SenderReady:
        claim = Claim(message.name, message.resume, message.take_over)
        session = await self._sessions.publish(client, claim, message.talking)
        return messages.SenderReady(client.id, session.stream_id, session.resume_key)

    async def set_talking(self, client: Client, message: messages.SetTalking) -> None:
        if not isinstance(client.session, PublishSession):
            raise Refused("unexpected_talking", "Send start_sending first")
        client.session.set_talking(message.talking)

    async def answer_offer(self, client: Client, message: messages.WebrtcOffer) -> messages.Answer:
        if not isinstance(client.session, PublishSession):
            raise Refused("unexpected_offer", "Send start_sending before an offer")
        answer = await client.session.answer(message.offer.sdp)
        return messages.Answer(messages.AnswerDescription(answer, "answer"))

    async def start_receiving(self, client: Client, message: messages.StartReceiving) -> messages.Offer | None:
        if message.follow:
            await self._follow(client, message)
            return None
        session = await self._sessions.subscribe(client, message.stream_id)
        offer = await session.offer() if session is not None else None
        if session is None or offer is None:
            return None
        return messages.Offer(messages.OfferDescription(offer, "offer"), session.stream_id)

    async def _follow(self, client: Client, message: messages.StartReceiving) -> None:
        session = await self._sessions.follow(client, message.stream_id, message.excluded)
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
        live = [stream for stream in live_streams(self._streams.active) if client.may_know(stream.id)]
        return messages.AvailableStreams([stream.id for stream in live], [stream.details() for stream in live])

    async def stop_stream(self, client: Client, message: messages.StopStream) -> None:
        """Ends the client's media and keeps its socket."""
        await self._sessions.release(client, "sender left")

    async def subscribe_visualization(self, client: Client, message: messages.SubscribeVisualization) -> None:
        """Gives the client the stream's `audio_data`, which is worked out once for all who asked."""
        self._meters.subscribe(client, self._streams.live(message.stream_id, client.grant))

    async def unsubscribe_visualization(self, client: Client, message: messages.UnsubscribeVisualization) -> None:
        """Of one stream, or of all."""
        self._meters.unsubscribe(client, message.stream_id)

    async def subscribe_events(self, client: Client, message: messages.SubscribeEvents) -> None:
        client.event_kinds = messages.EVENT_KINDS if message.kinds is None else frozenset(message.kinds)

    async def unsubscribe_events(self, client: Client, message: messages.UnsubscribeEvents) -> None:
        client.event_kinds = frozenset()
