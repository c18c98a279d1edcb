"""A client that receives: one stream, or whatever is selected for as long as it is there."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from ..process.refusal import Refused
from ..rtc import ReceiverPeer
from ..streams.feed import Feed, Selection
from ..streams.stream import Stream
from ..streams.track import OpusTrack
from .session import Owner, Services, Session
from .states import ConnectionState, Role


class ReceiveSession(Session):
    """What those who receive share: media comes from one track."""

    role = Role.RECEIVER
    peer: ReceiverPeer | None

    def __init__(self, owner: Owner, stream_id: str | None, track: OpusTrack, services: Services) -> None:
        super().__init__(owner, stream_id, services)
        self.awaits_answer = False
        """An offer went out, and no answer came yet."""
        self._track = track

    @property
    def track(self) -> OpusTrack:
        """What it hears."""
        return self._track

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
        peer = self._services.peers.receiver(self._track, apart=self._owner.is_server)
        self._watch(peer)
        await self._replace_peer(peer)
        return peer

    def _watch(self, peer: ReceiverPeer) -> None:
        peer.on_connected = functools.partial(self._on_connected, peer)
        peer.on_gone = functools.partial(self._on_gone, peer)

    def _on_connected(self, peer: ReceiverPeer) -> None:
        if self.peer is peer:
            self._owner.advance(ConnectionState.CONNECTED)
            self._await_first_packet(self._track, functools.partial(self._on_packet, peer))

    def _on_packet(self, peer: ReceiverPeer) -> None:
        if self.peer is peer:
            self._cancel_first_packet()
            self._owner.advance(ConnectionState.STREAMING)

    def _on_gone(self, peer: ReceiverPeer, reason: str) -> None:
        if self.peer is peer:
            self._note_lost(reason)
            self.end("left")


class SubscribeSession(ReceiveSession):
    """A client that receives one stream, until that ends."""

    def __init__(self, owner: Owner, stream: Stream, services: Services) -> None:
        super().__init__(owner, stream.id, stream.track, services)
        self._stream = stream
        stream.receivers.add(owner.id)

    def _leave_stream(self, reason: str, may_resume: bool) -> None:
        self._stream.receivers.discard(self._owner.id)
        self._stream.last_activity = time.monotonic()


class FollowSession(ReceiveSession):
    """A client that receives whatever stream is selected, also while there is none, until it leaves."""

    def __init__(self, owner: Owner, selection: Selection, services: Services) -> None:
        self.id = owner.id
        """As a follower."""
        self.selection = selection
        self._tells = False
        self._feed: Feed = services.feeds.join(selection, self)
        super().__init__(owner, _newest_id(self._feed.voices), self._feed.track, services)
        if selection.room is not None:
            services.rooms.enter(selection.room, owner.id, quiet=selection.quiet)

    def tell(self) -> None:
        """Tells the client what it is fed, now and at each change."""
        self._tells = True
        self._owner.on_fed(self.selection.room, self._feed.voices, self._feed.is_shared)

    def on_fed(self, voices: Sequence[Stream]) -> None:
        """For `Follower`."""
        self.stream_id = _newest_id(voices)
        if self._tells:
            self._owner.on_fed(self.selection.room, voices, self._feed.is_shared)

    def ends_with(self, stream: Stream) -> bool:
        return False

    def _leave_stream(self, reason: str, may_resume: bool) -> None:
        self._services.feeds.leave(self._feed, self)
        if self.selection.room is not None:
            self._services.rooms.leave(self.selection.room, self._owner.id)


def _newest_id(voices: Sequence[Stream]) -> str | None:
    return voices[-1].id if voices else None
