"""A client that publishes."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable

from ..process.refusal import Refused
from ..rtc import LEFT, SenderPeer
from ..streams.rooms import EVERYBODY, Audience
from ..streams.stream import Stream, StreamState
from .keys import digest
from .session import Owner, Services, Session
from .states import ConnectionState, Role

logger = logging.getLogger(__name__)

PAUSE_DELAY_S = 0.5
"""How long a stream goes on before it is paused when its client has closed the peer connection. A page that is left
closes its socket just after, which ends the stream; a pause would be announced to everybody before that."""


class PublishSession(Session):
    """A client that publishes. With a name, the stream's id is the name, and outlives a lost peer for a while."""

    role = Role.SENDER
    peer: SenderPeer | None
    stream_id: str

    def __init__(
        self,
        owner: Owner,
        name: str | None,
        services: Services,
        resume_key: str,
        check_claim: Callable[[], Awaitable[None]],
        claimed: Stream | None,
        former_digest: bytes | None = None,
        talking: bool | None = None,
        audience: Audience = EVERYBODY,
    ) -> None:
        """`claimed`: the stream of the name for which `check_claim`, which raises Refused, was called already.

        `talking` and `audience` are as for `Sessions.publish`.
        """
        super().__init__(owner, name or f"stream_{owner.id}", services)
        self.name = name
        self.resume_key = resume_key
        self._check_claim = check_claim
        self._claimed = claimed
        self.former_digest = former_digest
        """That of the key which `resume_key` stands for now, where its client was the stream's sender before."""
        self._is_talking = talking is not False
        self._tells = talking is not None
        self._audience = audience

    def set_talking(self, talking: bool, audience: Audience | None = None) -> None:
        """Whether what the client sends is heard, and by whom; None: by the same as before.

        If not, its stream ends, and its connection and its name stay. For another audience it is another stream of
        that name. Raises Refused `room_busy`.
        """
        audience = audience or self._audience
        if talking:
            self._services.rooms.check_free(audience.rooms, self._owner.id)
        self._tells = True
        is_other = talking and self._is_talking and audience != self._audience
        self._audience = audience
        if talking == self._is_talking and not is_other:
            return
        if is_other:
            self._turn(talking=False)
        self._turn(talking=talking)

    def _turn(self, *, talking: bool) -> None:
        self._is_talking = talking
        stream = self._services.streams.find(self.stream_id)
        if stream is not None and self._is_sender_of(stream):
            self._heed_talking(self.peer, stream)

    def _heed_talking(self, peer: SenderPeer | None, stream: Stream) -> None:
        """Does what `_is_talking` says to the peer, if there is one, and to the stream, whose sender the client is."""
        is_connected = self._owner.state in (ConnectionState.CONNECTED, ConnectionState.STREAMING)
        if not self._is_talking:
            if peer is not None:
                peer.withhold()
            self._shut(peer, stream)
        elif peer is not None and is_connected:
            stream.is_reserved = False
            stream.rooms, stream.urgent = self._audience.rooms, self._audience.urgent
            self._await_first_packet(stream.track, functools.partial(self._on_packet, peer, stream))
            peer.publish_on(stream.track)

    def _shut(self, peer: SenderPeer | None, stream: Stream) -> None:
        """Ends the stream, if it is live, and keeps its name for the next time."""
        if stream.is_live:
            stream = self._begin_anew(peer, stream)
        stream.is_reserved = peer is not None
        if self._tells:
            self._owner.on_talking(stream)

    def _begin_anew(self, peer: SenderPeer | None, stream: Stream) -> Stream:
        """Ends the client's live stream, but not this session, and returns the one that comes after it."""
        # Else its end would be that of this session.
        stream.sender_id = ""
        self._cancel_first_packet()
        self._services.streams.end(stream, "stopped talking")
        if peer is None:
            return stream
        peer.withhold()
        stream = self._stream_to_publish()
        self._watch(peer, stream)
        if self._owner.state is ConnectionState.STREAMING:
            self._owner.advance(ConnectionState.CONNECTED)
        return stream

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
        peer = self._services.peers.sender(stream.track, apart=self._owner.is_server)
        if not self._is_talking:
            peer.withhold()
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
            self._claimed = stream if stream.is_held else None

    def _stream_to_publish(self) -> Stream:
        stream = self._services.streams.find(self.stream_id)
        if stream is None:
            shown = self.name or f"Voice {self._owner.id[:4]}"
            stream = self._services.streams.create(self.stream_id, shown, self._owner.id)
            stream.resume_digest, stream.via = digest(self.resume_key), self._owner.via
            stream.rooms, stream.urgent = self._audience.rooms, self._audience.urgent
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
        peer.on_silent = functools.partial(self._on_silent, peer, stream)
        peer.on_heard = functools.partial(self._on_packet, peer, stream)

    def _on_silent(self, peer: SenderPeer, stream: Stream) -> None:
        if self.peer is not peer or not self._is_talking:
            return
        if self.name is None:
            peer.lose_silent()
        elif self._is_sender_of(stream):
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
        if stream.is_live and Audience(stream.rooms, stream.urgent) != self._audience:
            # Whoever hears it now did not ask for what comes, or is not meant.
            stream = self._begin_anew(peer, stream)
        self._heed_talking(peer, stream)

    def _on_packet(self, peer: SenderPeer, stream: Stream) -> None:
        """The first packet has been passed on, or the first after a silence."""
        if self.peer is not peer or not self._is_talking:
            return
        self._cancel_first_packet()
        is_first = self._owner.state is not ConnectionState.STREAMING
        self._owner.advance(ConnectionState.STREAMING)
        self._services.streams.resume(stream)
        if is_first and self._tells:
            self._owner.on_talking(stream)

    def _take_over(self, stream: Stream) -> None:
        """This client has media for the stream of another, under its name: it is the sender now."""
        previous = self._services.active.get(stream.sender_id)
        stream.sender_id, stream.resume_digest = self._owner.id, digest(self.resume_key)
        stream.via = self._owner.via
        self._services.streams.move(stream, self._services.streams.node, is_remote=False)
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
