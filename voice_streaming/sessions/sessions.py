"""Beginning and ending sessions, on any transport."""

from __future__ import annotations

import functools

from ..process.refusal import Refused
from ..streams.feed import Selection
from ..streams.names import name_key
from ..streams.registry import StreamObserver
from ..streams.rooms import EVERYBODY, Audience, Rooms
from ..streams.stream import Stream
from .claim import Claim, check_claim, has_key
from .connection import Connection
from .keys import digest, new_key
from .publish_session import PublishSession
from .session import Services, Session
from .subscribe_session import FollowSession, SubscribeSession


class Sessions(StreamObserver):
    """The sessions of all connections: each has one at most, and beginning another ends it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def active(self) -> dict[str, Session]:
        """By the id of the connection."""
        return self._services.active

    @property
    def rooms(self) -> Rooms:
        return self._services.rooms

    def has_sender(self, stream_id: str) -> bool:
        """Whether the stream's sender is with this server, talking or not."""
        stream = self._services.streams.find(stream_id)
        if stream is not None:
            return not stream.is_remote
        key = name_key(stream_id)
        publishers = (session for session in self.active.values() if isinstance(session, PublishSession))
        return any(name_key(session.stream_id) == key for session in publishers)

    def close(self) -> None:
        """After all sessions: what they share tells and settles nothing more."""
        self._services.rooms.close()
        self._services.feeds.close()

    def figures(self) -> dict[str, float]:
        """By the names they have in `/metrics`."""
        counters = self._services.mixes.counters
        return {
            "rooms": len(self._services.rooms.visible()),
            "mixes": len(self._services.mixes),
            "mixed_frames_total": counters.encoded_frames,
            "mixing_skipped_frames_total": counters.skipped_frames,
            "mixing_refused_total": counters.refused_mixes,
        }

    def describe_mixes(self) -> dict[str, int]:
        """For `/health`: how many different mixes of voices are made, and may be; beyond them talkers of a room share
        one, in which they are themselves."""
        mixes = self._services.mixes
        return {"active": len(mixes), "most": mixes.most, "refused": mixes.counters.refused_mixes}

    async def publish(
        self, connection: Connection, claim: Claim, talking: bool | None = None, audience: Audience = EVERYBODY
    ) -> PublishSession:
        """Lets the connection publish a stream: with a name under that, else under an id of its own.

        A stream that it starts again goes on. With `talking` False nothing is heard until `PublishSession.set_talking`;
        None is True for a client that does not know the difference and is not told of it. Raises Refused `name_taken`:
        see `check_claim`; or `room_busy`.
        """
        if talking is not False:
            self._services.rooms.check_free(audience.rooms, connection.id)
        await self._check_claim(connection, claim)
        previous, stream = connection.session, self._services.streams.find(claim.name)
        key, former_digest = new_key(), None
        if self._services.names is not None:
            await self._services.names.hold(claim, digest(key))
            stream = self._services.streams.find(claim.name)
        if stream is not None and (stream.sender_id == connection.id or has_key(claim, stream)):
            # A key is good for one use, so that whoever overheard it comes too late.
            former_digest, stream.resume_digest = stream.resume_digest, digest(key)
        # As whoever was first wrote it.
        name = claim.name if stream is None else stream.id
        starts_again = isinstance(previous, PublishSession) and name is not None and previous.stream_id == name
        await self.release(connection, "sender left", may_resume=starts_again)
        # What is not live yet is anybody's; once it is, the claim is checked.
        claimed = stream if stream is not None and (stream.is_held or former_digest is not None) else None
        check = functools.partial(self._check_claim, connection, claim)
        return PublishSession(connection, name, self._services, key, check, claimed, former_digest, talking, audience)

    def restore_key(self, session: PublishSession) -> None:
        """Its client was refused before it could learn its new key: the one that it came with is good again."""
        stream = self._services.streams.find(session.stream_id)
        if stream is None or session.former_digest is None:
            return
        if stream.resume_digest == digest(session.resume_key):
            stream.resume_digest = session.former_digest

    async def _check_claim(self, connection: Connection, claim: Claim) -> None:
        stream = self._services.streams.find(claim.name)
        if self._services.names is not None and (stream is None or stream.is_remote):
            self._services.names.check(claim)
        if stream is None or stream.is_remote or stream.sender_id == connection.id:
            return
        if stream.permanent:
            raise Refused("name_taken", f"{stream.name} is the server's own stream: choose another name")
        if stream.is_held:
            holder = self.active.get(stream.sender_id)
            await check_claim(claim, stream, holder, self._services.settings.streams.name_taken)

    async def await_stream(self, connection: Connection, stream_id: str | None) -> None:
        """Before `subscribe`, and before a turn is taken for a negotiation: waits for a stream that begins on demand.

        Raises Refused `no_stream` or `stream_ended`.
        """
        await self._services.streams.obtain(stream_id, connection.grant)

    async def subscribe(self, connection: Connection, stream_id: str | None) -> SubscribeSession | None:
        """Lets the connection receive that stream, or the newest. Raises Refused `no_stream` or `stream_ended`.

        None if it asks again for what was offered to it and waits for its answer: cards press twice.
        """
        stream = self._services.streams.live(stream_id, connection.grant)
        previous = connection.session
        if isinstance(previous, SubscribeSession) and previous.stream_id == stream.id and previous.awaits_answer:
            return None
        await self.release(connection, "sender left")
        if not stream.is_live:
            raise Refused("stream_ended", "Stream ended")
        return SubscribeSession(connection, stream, self._services)

    async def follow(self, connection: Connection, selection: Selection) -> FollowSession | None:
        """Lets the connection receive what is selected, whenever it is there, until it leaves.

        None if it asks again for what was offered to it and waits for its answer.
        """
        previous = connection.session
        if isinstance(previous, FollowSession) and previous.selection == selection and previous.awaits_answer:
            return None
        await self.release(connection, "sender left")
        return FollowSession(connection, selection, self._services)

    async def follow_anew(self, connection: Connection, selection: Selection) -> FollowSession:
        """The same for a connection that has no session yet."""
        session = await self.follow(connection, selection)
        assert session is not None
        return session

    async def subscribe_anew(self, connection: Connection, stream_id: str | None) -> SubscribeSession:
        """The same for a connection that has no session yet."""
        session = await self.subscribe(connection, stream_id)
        assert session is not None
        return session

    async def release(self, connection: Connection, reason: str, *, may_resume: bool = False) -> None:
        """Ends the connection's session, if it has one; see `Session.release`."""
        if connection.session is not None:
            await connection.session.release(reason, may_resume=may_resume)

    def end(self, connection: Connection, reason: str) -> None:
        """The same for callers that cannot wait."""
        if connection.session is not None:
            connection.session.end(reason)

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        for connection_id in [*stream.receivers, stream.sender_id]:
            session = self.active.get(connection_id)
            if session is not None and session.ends_with(stream):
                session.end(reason)

    def on_stream_dropped(self, stream: Stream, reason: str) -> None:
        """Ends the session of a sender that is connected, or about to be, and has sent nothing."""
        session = self.active.get(stream.sender_id)
        if isinstance(session, PublishSession) and session.stream_id == stream.id and session.peer is not None:
            session.lose_stream(reason)
