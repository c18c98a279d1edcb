"""One client's media on one stream, in either role, as offerer or answerer; no transport for descriptions in here.

A session begins with `Sessions.publish` or `Sessions.subscribe` and ends once. A peer that was replaced in the meantime
changes nothing any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..rtc import Peers, ReceiverPeer, SenderPeer
from ..settings.model import Settings
from ..streams.feed import Feeds
from ..streams.mixing import Mixes
from ..streams.registry import Streams
from ..streams.relay import FirstPacket, VoiceRelay
from ..streams.rooms import Room, Rooms
from ..streams.stream import Stream
from ..streams.track import OpusTrack
from .names import Names
from .states import ConnectionState, Role

logger = logging.getLogger(__name__)


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
    def is_server(self) -> bool: ...

    @property
    def state(self) -> ConnectionState: ...

    def advance(self, state: ConnectionState) -> None: ...

    def on_session_ended(self) -> None: ...

    def on_media_lost(self, reason: str) -> None: ...

    def on_stream_ended(self, stream_id: str, reason: str) -> None: ...

    def on_talking(self, stream: Stream) -> None: ...

    def on_fed(self, room: Room | None, voices: Sequence[Stream], shared: bool) -> None: ...


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
    names: Names | None = None
    """Beyond this server; None where it is alone."""
    feeds: Feeds = field(init=False)
    rooms: Rooms = field(init=False)
    mixes: Mixes = field(init=False)

    def __post_init__(self) -> None:
        settings, streams, failures = self.settings, self.streams.active, self.tasks.failures
        exclusive = settings.streams.exclusive_rooms
        self.rooms = Rooms(streams, settings.rooms, exclusive, settings.limits.max_rooms, failures)
        self.mixes = Mixes(self.relay, failures, even_loudness=settings.streams.even_loudness)
        self.feeds = Feeds(self.relay, streams, self.mixes, failures)
        self.rooms.on_selection(self.feeds.select)
        self.streams.observe(self.feeds)
        self.streams.observe(self.rooms)


class Session:
    """What publishers and subscribers share."""

    role: Role
    peer: SenderPeer | ReceiverPeer | None = None

    def __init__(self, owner: Owner, stream_id: str | None, services: Services) -> None:
        self.stream_id = stream_id
        """None while no stream is received."""
        self.has_ended = False
        self._owner = owner
        self._services = services
        self._first_packet: FirstPacket | None = None
        """What waits for the next packet of the stream, which may be long in coming."""
        owner.session = services.active[owner.id] = self
        owner.advance(ConnectionState.READY)

    @property
    def via(self) -> str:
        """Its owner's transport."""
        return self._owner.via

    def ends_with(self, stream: Stream) -> bool:
        """Whether it is over when the stream is."""
        return self.stream_id == stream.id

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
