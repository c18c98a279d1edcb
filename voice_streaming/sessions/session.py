"""One client's media on one stream, in either role, as offerer or answerer; no transport for descriptions in here.

A session begins with `Sessions.publish` or `Sessions.subscribe` and ends once. A peer that was replaced in the meantime
changes nothing any more.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..rtc import LEFT, Peers, ReceiverPeer, SenderPeer
from ..settings.model import Settings
from ..streams.registry import Streams
from ..streams.relay import FirstPacket, VoiceRelay
from ..streams.stream import Stream, StreamState
from ..streams.track import OpusTrack
from .keys import digest
from .states import ConnectionState, Role

logger = logging.getLogger(__name__)

PAUSE_DELAY_S = 0.5
"""How long a stream goes on before it is paused when its client has closed the peer connection. A page that is left
closes its socket just after, which ends the stream; a pause would be announced to everybody before that."""


class Owner(Protocol):
    """The client that a session belongs to."""

    session: Session | None

    @property
    def id(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def via(self) -> str: ...

    @property
    def state(self) -> ConnectionState: ...

    def advance(self, state: ConnectionState) -> None: ...

    def on_session_ended(self) -> None: ...

    def on_media_lost(self, reason: str) -> None: ...

    def on_stream_ended(self, stream_id: str, reason: str) -> None: ...


@dataclass
class Services:
    """What sessions are made of."""

    relay: VoiceRelay
    streams: Streams
    peers: Peers
    tasks: Tasks
    settings: Settings
    active: dict[str, Session] = field(default_factory=dict)
    """By the id of its owner."""


class Session:
    """What publishers and subscribers share."""

    role: Role
    peer: SenderPeer | ReceiverPeer | None = None

    def __init__(self, owner: Owner, stream_id: str, services: Services) -> None:
        self.stream_id = stream_id
        self.has_ended = False
        self._owner = owner
        self._services = services
        self._first_packet: FirstPacket | None = None
        """What waits for the next packet of the stream, which may be long in coming."""
        owner.session = services.active[owner.id] = self
        owner.advance(ConnectionState.READY)

    async def add_candidate(self, candidate: str) -> None:
        """A trickled candidate, empty at their end. Raises Refused."""
        if self.peer is None:
            raise Refused("unexpected_candidate", "There is no offer or answer that the candidate could belong to")
        await self.peer.add_candidate(candidate)

    async def release(self, reason: str, *, may_resume: bool = False) -> None:
        """Ends the session; what it published ends with `reason`. Waits until its peer is closed.

        With `may_resume` a stream with a name waits for its sender to come back.
        """
        peer = self._detach(reason, may_resume)
        if peer is not None:
            await peer.close()

    def end(self, reason: str) -> None:
        """The same for callers that cannot wait for the peer to close."""
        self._close_later(self._detach(reason, may_resume=False))

    def _detach(self, reason: str, may_resume: bool) -> SenderPeer | ReceiverPeer | None:
        if self.has_ended:
            return None
        self.has_ended = True
        peer, self.peer = self.peer, None
        self._cancel_first_packet()
        del self._services.active[self._owner.id]
        self._owner.session = None
        if self._owner.state is not ConnectionState.CLOSED:
            self._owner.advance(ConnectionState.CREATED)
        self._leave_stream(reason, may_resume)
        self._owner.on_session_ended()
        return peer

    def _leave_stream(self, reason: str, may_resume: bool) -> None:
        raise NotImplementedError

    async def _replace_peer(self, peer: SenderPeer | ReceiverPeer) -> None:
        """Makes `peer` the session's, which has `webrtc.connection_timeout` to connect."""
        previous, self.peer = self.peer, peer
        self._owner.advance(ConnectionState.READY)
        peer.connect_within(self._services.settings.webrtc.connection_timeout)
        if previous is not None:
            await previous.close()

    def _await_first_packet(self, track: OpusTrack, call: Callable[[], None]) -> None:
        """Calls at the track's next packet, unless another peer is waited for or the session ends before."""
        self._cancel_first_packet()
        self._first_packet = FirstPacket(self._services.relay, track, call)

    def _cancel_first_packet(self) -> None:
        if self._first_packet is not None:
            self._first_packet.cancel()
            self._first_packet = None

    def _close_later(self, peer: SenderPeer | ReceiverPeer | None) -> None:
        if peer is not None:
            self._services.tasks.spawn(peer.close(), f"close-peer-{self._owner.id}")

    def _note_lost(self, reason: str) -> None:
        logger.debug("Connection %s: media lost: %s", self._owner.id, reason)
        self._owner.on_media_lost(reason)


class PublishSession(Session):
    """A client that publishes. With a name, the stream's id is the name, and outlives a lost peer for a while."""

    role = Role.SENDER
    peer: SenderPeer | None

    def __init__(
        self,
        owner: Owner,
        name: str | None,
        services: Services,
        resume_key: str,
        check_claim: Callable[[], Awaitable[None]],
        claimed: Stream | None,
        former_digest: bytes | None = None,
    ) -> None:
        """`claimed`: the stream of the name for which `check_claim`, which raises Refused, was called already."""
        super().__init__(owner, name or f"stream_{owner.id}", services)
        self.name = name
        self.resume_key = resume_key
        self._check_claim = check_claim
        self._claimed = claimed
        self.former_digest = former_digest
        """That of the key which `resume_key` stands for now, where its client was the stream's sender before."""

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer.

        A further offer of the same connection is a renegotiation or an ICE restart; that of another one replaces it,
        and the stream goes on. A client that lost its socket goes on over another, with the stream's key.

        Raises Refused: `bad_sdp`, `no_opus`, `stream_ended` if it ended meanwhile, or `name_taken` if somebody else
        began it first.
        """
        if self.peer is None and self.former_digest is not None:
            self._adopt_peer(offer)
        if self.peer is not None and self.peer.continues(offer):
            return await self.peer.answer(offer)
        return await self._negotiate(lambda peer: peer.answer(offer))

    async def offer(self) -> str:
        """Our offer to receive what the client publishes; the same errors."""
        return await self._negotiate(lambda peer: peer.offer())

    async def accept(self, answer: str) -> None:
        """The client's answer to our offer. Raises Refused."""
        if self.peer is None:
            raise Refused("unexpected_answer", "There is no offer to answer")
        await self.peer.accept(answer)

    async def _negotiate(self, describe: Callable[[SenderPeer], Awaitable[str]]) -> str:
        """The description of a new peer, which becomes the session's."""
        await self._check_claim_again()
        stream = self._stream_to_publish()
        peer = self._services.peers.sender(stream.track)
        self._watch(peer, stream)
        try:
            description = await describe(peer)
            if self.has_ended or self._services.streams.find(self.stream_id) is not stream:
                raise Refused("stream_ended", "Stream ended")
        except BaseException:
            await peer.close()
            if stream.state is StreamState.CREATED and self._is_sender_of(stream) and self.peer is None:
                self._services.streams.end(stream, "no media")
            raise
        await self._replace_peer(peer)
        if self.has_ended:
            # While the peer before it was closed; this one is closed too.
            raise Refused("stream_ended", "Stream ended")
        return description

    async def _check_claim_again(self) -> None:
        """The name was free when the session began, or another stream had it: it needs the claim again."""
        stream = self._services.streams.find(self.stream_id)
        if stream is not None and stream is not self._claimed:
            await self._check_claim()
            self._claimed = stream if stream.is_live else None

    def _stream_to_publish(self) -> Stream:
        stream = self._services.streams.find(self.stream_id)
        if stream is None:
            shown = self.name or f"Voice {self._owner.id[:4]}"
            stream = self._services.streams.create(self.stream_id, shown, self._owner.id)
            stream.resume_digest, stream.via = digest(self.resume_key), self._owner.via
        # Somebody else may have begun it since, and written its name in another case.
        self.stream_id = stream.id
        return stream

    def _is_sender_of(self, stream: Stream) -> bool:
        return stream.sender_id == self._owner.id

    def _leave_stream(self, reason: str, may_resume: bool) -> None:
        stream = self._services.streams.find(self.stream_id)
        if stream is None or not self._is_sender_of(stream):
            return
        if may_resume and self.name is not None:
            self._services.streams.pause(stream, reason)
        else:
            self._services.streams.end(stream, reason)

    def _watch(self, peer: SenderPeer, stream: Stream) -> None:
        peer.on_connected = functools.partial(self._on_connected, peer, stream)
        peer.on_gone = functools.partial(self._on_gone, peer)
        if self.name is not None:
            peer.on_silent = functools.partial(self._on_silent, peer, stream)
            peer.on_heard = functools.partial(self._on_packet, peer, stream)

    def _on_silent(self, peer: SenderPeer, stream: Stream) -> None:
        if self.peer is peer and self._is_sender_of(stream):
            self._services.streams.pause_silent(stream, "the sender is silent")

    def _on_connected(self, peer: SenderPeer, stream: Stream) -> None:
        if self.peer is not peer:
            return
        if self._services.streams.find(self.stream_id) is not stream:
            # It ended since the offer was answered.
            self.lose_stream("sender left")
            return
        if not self._is_sender_of(stream):
            self._take_over(stream)
        self._services.streams.keep(stream)
        self._owner.advance(ConnectionState.CONNECTED)
        self._await_first_packet(stream.track, functools.partial(self._on_packet, peer, stream))

    def _on_packet(self, peer: SenderPeer, stream: Stream) -> None:
        if self.peer is peer:
            self._cancel_first_packet()
            self._owner.advance(ConnectionState.STREAMING)
            self._services.streams.resume(stream)

    def _take_over(self, stream: Stream) -> None:
        """This client has media for the stream of another, under its name: it is the sender now."""
        previous = self._services.active.get(stream.sender_id)
        stream.sender_id, stream.resume_digest = self._owner.id, digest(self.resume_key)
        stream.via = self._owner.via
        if isinstance(previous, PublishSession) and previous.stream_id == stream.id:
            addresses = self._owner.address, previous._owner.address
            logger.info("Stream %s: the sender at %s takes over from that at %s", ascii(stream.id), *addresses)
            previous.lose_stream("replaced")

    def _adopt_peer(self, offer: str) -> None:
        """Makes the peer of the stream's present sender this session's, if the offer is a further one of it."""
        stream = self._services.streams.find(self.stream_id)
        previous = self._services.active.get(stream.sender_id) if stream is not None else None
        if stream is None or not isinstance(previous, PublishSession) or previous.stream_id != stream.id:
            return
        peer, state = previous.peer, previous._owner.state
        is_connected = state in (ConnectionState.CONNECTED, ConnectionState.STREAMING)
        if peer is not None and is_connected and peer.continues(offer):
            previous.peer, self.peer = None, peer
            self._watch(peer, stream)
            self._on_connected(peer, stream)

    def lose_stream(self, reason: str) -> None:
        """Ends the session and tells its client alone: to all others the stream goes on, or never was."""
        self._owner.on_stream_ended(self.stream_id, reason)
        self.end(reason)

    def _on_gone(self, peer: SenderPeer, reason: str) -> None:
        if self.peer is not peer:
            return
        self._note_lost(reason)
        stream = self._services.streams.find(self.stream_id)
        if self.name is not None and stream is not None and stream.is_live:
            # The client is there: its next offer goes on with the stream, `release` ends it.
            self.peer = None
            self._owner.advance(ConnectionState.READY)
            self._close_later(peer)
            if reason == LEFT:
                asyncio.get_running_loop().call_later(PAUSE_DELAY_S, self._pause, stream)
            else:
                self._pause(stream)
        else:
            self.end("sender left" if reason == LEFT else "sender lost")

    def _pause(self, stream: Stream) -> None:
        if not self.has_ended and self.peer is None and self._is_sender_of(stream):
            self._services.streams.pause(stream, "sender lost")


class SubscribeSession(Session):
    """A client that receives one stream."""

    role = Role.RECEIVER
    peer: ReceiverPeer | None

    def __init__(self, owner: Owner, stream: Stream, services: Services) -> None:
        super().__init__(owner, stream.id, services)
        self.awaits_answer = False
        """An offer went out, and no answer came yet."""
        self._stream = stream
        stream.receivers.add(owner.id)

    async def offer(self) -> str | None:
        """Our offer to the client; None if the session ended meanwhile."""
        peer = await self._new_peer()
        offer = await peer.offer()
        if self.peer is not peer:
            return None
        self.awaits_answer = True
        return offer

    async def accept(self, answer: str) -> None:
        """The client's answer to our offer. Raises Refused."""
        if self.peer is None or not self.awaits_answer:
            raise Refused("unexpected_answer", "There is no offer to answer: send start_receiving first")
        await self.peer.accept(answer)
        self.awaits_answer = False

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer to receive. A further one as for `PublishSession.answer`. Raises Refused."""
        if self.peer is not None and self.peer.continues(offer):
            return await self.peer.answer(offer)
        peer = await self._new_peer()
        answer = await peer.answer(offer)
        if self.peer is not peer:
            raise Refused("stream_ended", "Stream ended")
        return answer

    async def _new_peer(self) -> ReceiverPeer:
        peer = self._services.peers.receiver(self._stream.track)
        self._watch(peer)
        await self._replace_peer(peer)
        return peer

    def _leave_stream(self, reason: str, may_resume: bool) -> None:
        self._stream.receivers.discard(self._owner.id)
        self._stream.last_activity = time.monotonic()

    def _watch(self, peer: ReceiverPeer) -> None:
        peer.on_connected = functools.partial(self._on_connected, peer)
        peer.on_gone = functools.partial(self._on_gone, peer)

    def _on_connected(self, peer: ReceiverPeer) -> None:
        if self.peer is peer:
            self._owner.advance(ConnectionState.CONNECTED)
            self._await_first_packet(self._stream.track, functools.partial(self._on_packet, peer))

    def _on_packet(self, peer: ReceiverPeer) -> None:
        if self.peer is peer:
            self._cancel_first_packet()
            self._owner.advance(ConnectionState.STREAMING)

    def _on_gone(self, peer: ReceiverPeer, reason: str) -> None:
        if self.peer is peer:
            self._note_lost(reason)
            self.end("left")
