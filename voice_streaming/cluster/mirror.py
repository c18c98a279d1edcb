"""Streams of other nodes as streams of this one, and this one's streams in the registry.

What is to be so follows from what there is: `reconcile` brings the registry in line with this server's own streams, and
each piece of news brings the others' streams in line with the registry. Nothing depends on having seen every change.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import time

from msgspec.structs import replace

from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..sessions.claim import Claim
from ..sessions.keys import digest
from ..sessions.publish_session import PublishSession
from ..sessions.sessions import Sessions
from ..sessions.subscribe_session import FollowSession
from ..settings.model import StreamSettings
from ..streams.names import name_key
from ..streams.registry import StreamObserver, Streams
from ..streams.stream import Stream
from ..streams.track import OpusTrack
from .entries import Lease, NodeEntry, StreamEntry
from .pull import Pull, PullServices
from .registry import Registry, RegistryObserver, RegistryUnavailable

logger = logging.getLogger(__name__)

LOST_AFTER_S = 5.0
"""How long a stream goes on whose lease or node is gone, and not by its own word: Redis may have been emptied, and its
owner tells of it anew within two seconds. Media that flow do not end before."""
FLOWS_S = 2.0
"""A stream whose newest packet is no older than that is there, whatever the registry says."""
RETRY_S = 1.0
"""After a failure that nobody thought of."""
HOLD_S = 5.0
"""How long a name is kept for a client that has asked for it and has not begun."""


class Mirror(RegistryObserver, StreamObserver):
    """For `Sessions` it is the `Names` of the whole cluster."""

    def __init__(
        self, registry: Registry, streams: Streams, sessions: Sessions, settings: StreamSettings, tasks: Tasks
    ) -> None:
        self.pulls: dict[str, Pull] = {}
        """By the key of the stream."""
        self.pull_services: PullServices | None = None
        """None before the start."""
        self._registry = registry
        self._streams = streams
        self._sessions = sessions
        self._settings = settings
        self._tasks = tasks
        self._proofs: dict[str, tuple[str, bool]] = {}
        """By key: what the next claim of the stream brings, a digest, and whether it takes the stream in any case."""
        self._claiming: set[str] = set()
        self._held_s: dict[str, float] = {}
        self._missing_s: dict[str, float] = {}
        """By key: when a stream's lease or node was missed first."""
        self._ends: dict[str, str] = {}
        """By key: why our stream ended."""
        self._is_due = False
        registry.observe(self)
        streams.observe(self)

    # Names

    def check(self, claim: Claim) -> None:
        """Raises Refused `name_taken` where another node has the name, and the claim is not good for it."""
        lease = self._lease(claim.name)
        self._proofs.pop(name_key(claim.name or ""), None)
        if lease is None or not self._is_alive(lease):
            return
        key, proof = lease.entry.key, digest(claim.resume).hex() if claim.resume is not None else ""
        policy = self._settings.name_taken
        has_key = bool(lease.resume) and hmac.compare_digest(proof, lease.resume)
        takes = claim.owns_name or policy == "replace" or (claim.take_over and policy == "refuse") or lease.entry.lost
        if not has_key and not takes:
            hint = "choose another name" if policy == "never" else "choose another name, or take it over"
            raise Refused("name_taken", f"{lease.entry.name} is in use by another sender: {hint}")
        self._proofs[key] = (proof if has_key else "", takes)

    async def hold(self, claim: Claim, resume: bytes) -> None:
        """As for `Names`; where somebody talks under it elsewhere, it waits for the sender's media."""
        lease, key = self._lease(claim.name), name_key(claim.name or "")
        if claim.name is None or key in self._registry.leases.own:
            return
        if lease is not None and lease.entry.live and self._is_alive(lease) and not lease.entry.lost:
            return
        proof, takes = self._proofs.get(key, ("", False))
        stream = self._streams.find(claim.name)
        entry = StreamEntry(claim.name, claim.name) if stream is None else replace(_entry(stream), lost=True)
        self._held_s[key] = asyncio.get_running_loop().time()
        try:
            await self._registry.claim(entry, resume.hex(), proof=proof, takes=takes)
        except RegistryUnavailable:
            return  # It is claimed when the registry is back.
        self._proofs.pop(key, None)

    # This node's own streams

    def on_stream_live(self, stream: Stream) -> None:
        self._ends.pop(stream.key, None)
        self._soon()

    def on_stream_paused(self, stream: Stream) -> None:
        self._soon()

    def on_stream_resumed(self, stream: Stream) -> None:
        self._soon()

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        if not stream.is_remote:
            self._ends[stream.key] = reason
            self._held_s.pop(stream.key, None)
        self._soon()

    def on_stream_dropped(self, stream: Stream, reason: str) -> None:
        self._held_s.pop(stream.key, None)
        self._soon()

    def on_stream_moved(self, stream: Stream) -> None:
        if not stream.is_remote:
            stream.track.on_wanted = None
            self._turn(stream.key, None, None)
        self._soon()

    def _soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.reconcile)

    def reconcile(self) -> None:
        """Claims, describes and releases, so that the registry has our streams as they are; to be called now and then,
        too."""
        self._is_due = False
        own = self._registry.leases.own
        wanted = self._wanted()
        now_s = asyncio.get_running_loop().time()
        for key in [key for key in own if key not in wanted]:
            if now_s - self._held_s.get(key, -HOLD_S) >= HOLD_S:
                self._registry.describe(replace(own[key].entry, live=False, ended=self._ends.pop(key, "")))
                self._registry.release(key)
        for key, (entry, resume) in wanted.items():
            if key in own:
                self._registry.describe(entry, resume)
            elif entry.live and self._registry.is_connected and key not in self._claiming:
                self._claiming.add(key)
                self._tasks.spawn(self._claim(entry, resume), f"claim-{key}")
        self._ends = {key: reason for key, reason in self._ends.items() if key in own}
        self._held_s = {key: held_s for key, held_s in self._held_s.items() if now_s - held_s < HOLD_S}
        for key, lease in list(self._registry.leases.others.items()):
            if lease.entry.live and self._is_alive(lease) and self._streams.find(key) is None:
                self.on_lease(lease)  # What had its name here before is not there any more.
        self._look_for_the_dead(now_s)

    def _wanted(self) -> dict[str, tuple[StreamEntry, str]]:
        """By key: what the registry is to have of us, and the digest of the key with which it is taken up again."""
        wanted = {}
        for session in self._sessions.active.values():
            if isinstance(session, PublishSession) and session.name is not None:
                entry = StreamEntry(
                    session.stream_id, session.stream_id, ended=self._ends.get(name_key(session.stream_id), "")
                )
                wanted[entry.key] = (entry, digest(session.resume_key).hex())
        for stream in self._streams.own():
            if stream.permanent:
                continue  # Each server has its own.
            if stream.is_live:
                sender = self._sessions.active.get(stream.sender_id)
                lost = sender is None or sender.peer is None
                wanted[stream.key] = (replace(_entry(stream), lost=lost), stream.resume_digest.hex())
        for key in list(wanted):
            found = self._streams.find(key)
            if found is not None and found.is_remote:
                del wanted[key]  # It is ours when its sender's media are here.
        return wanted

    async def _claim(self, entry: StreamEntry, resume: str) -> None:
        key = entry.key
        proof, takes = self._proofs.get(key, ("", False))
        try:
            await self._registry.claim(entry, resume, proof=proof, takes=takes)
            self._proofs.pop(key, None)
        except Refused:
            self._give_up(key)
        except RegistryUnavailable:
            pass  # Once it is back.
        finally:
            self._claiming.discard(key)
            self._soon()

    def _give_up(self, key: str) -> None:
        """Another node has the stream: our sender is told, and whoever hears it hears that node's."""
        stream, lease = self._streams.find(key), self._registry.leases.others.get(key)
        if stream is None or stream.is_remote or lease is None:
            return
        session = self._sessions.active.get(stream.sender_id)
        logger.info("Stream %s: the server %s has it now", ascii(stream.id), self._name(lease.node))
        if stream.is_live and lease.entry.live:
            stream.sender_id = ""
            self._streams.move(stream, self._name(lease.node), is_remote=True)
            self.on_lease(lease)
        if isinstance(session, PublishSession):
            session.lose_stream("replaced")
        elif stream.is_live and not stream.is_remote:
            self._streams.end(stream, "replaced")

    # Streams of other nodes

    def on_lost(self, lease: Lease) -> None:
        self._give_up(lease.entry.key)

    def on_lease(self, lease: Lease) -> None:
        entry, key = lease.entry, lease.entry.key
        self._missing_s.pop(key, None)
        stream = self._streams.find(entry.stream_id)
        if stream is not None and not stream.is_remote:
            return  # A claim of ours is under way, or its sender is not live here.
        if stream is not None and (not entry.live or stream.started_at != entry.started_at):
            self._streams.end(stream, entry.ended or "sender left")
            stream = None
        if entry.live and stream is None:
            stream = self._create(entry, lease)
        elif entry.live and stream is not None:
            self._update(stream, lease)
        if key in self.pulls or (stream is None and self._has_followers()):
            self._turn(key, stream, lease)

    def on_released(self, lease: Lease) -> None:
        self._end_remote(lease, lease.entry.ended or "sender left")

    def on_gone(self, lease: Lease) -> None:
        self._missing_s.setdefault(lease.entry.key, asyncio.get_running_loop().time())

    def on_nodes(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for key, lease in self._registry.leases.others.items():
            if lease.node not in self._registry.nodes:
                self._missing_s.setdefault(key, now_s)
                continue
            self._missing_s.pop(key, None)
            stream = self._streams.find(key)
            if stream is not None and stream.is_remote:
                self._streams.move(stream, self._name(lease.node), is_remote=True)
            if key in self.pulls:
                self._turn(key, stream, lease)

    def on_connected(self) -> None:
        self.on_nodes()
        self._soon()

    def _look_for_the_dead(self, now_s: float) -> None:
        if not self._registry.is_connected:
            # Nothing is known of anybody: what flows goes on.
            self._missing_s = dict.fromkeys(self._missing_s, now_s)
            return
        for key, since_s in list(self._missing_s.items()):
            if now_s - since_s < LOST_AFTER_S:
                continue
            stream = self._streams.find(key)
            if stream is not None and stream.is_remote and _flows(stream):
                continue  # Its owner is cut off from the registry alone.
            del self._missing_s[key]
            self._turn(key, stream, None)
            if stream is not None and stream.is_remote:
                self._streams.pause(stream, "server lost")

    def _create(self, entry: StreamEntry, lease: Lease) -> Stream:
        stream = Stream(entry.stream_id, entry.name, OpusTrack(), "", started_at=entry.started_at, via=entry.via)
        stream.rooms, stream.urgent = entry.rooms, entry.urgent
        stream.paused, stream.is_recorded = entry.paused, entry.recording
        stream.node, stream.is_remote = self._name(lease.node), True
        stream.resume_digest = bytes.fromhex(lease.resume)
        stream.track.on_wanted = functools.partial(self._on_wanted, stream)
        self._streams.create_remote(stream)
        return stream

    def _update(self, stream: Stream, lease: Lease) -> None:
        entry = lease.entry
        stream.via, stream.is_recorded, stream.resume_digest = entry.via, entry.recording, bytes.fromhex(lease.resume)
        stream.track.on_wanted = functools.partial(self._on_wanted, stream)
        self._streams.move(stream, self._name(lease.node), is_remote=True)
        self._streams.keep(stream)
        if entry.paused:
            self._streams.pause_silent(stream, "the sender is silent")
        else:
            self._streams.resume(stream)
        if stream.track.is_wanted:
            self._on_wanted(stream)

    def _end_remote(self, lease: Lease, reason: str) -> None:
        stream = self._streams.find(lease.entry.stream_id)
        if stream is not None and stream.is_remote:
            self._streams.end(stream, reason)
        self._turn(lease.entry.key, None, None)

    # Pulls

    def _on_wanted(self, stream: Stream) -> None:
        if stream.track.is_wanted and stream.key not in self.pulls and stream.is_remote:
            self._turn(stream.key, stream, self._registry.leases.others.get(stream.key))
        elif (pull := self.pulls.get(stream.key)) is not None:
            pull.look()

    def _turn(self, key: str, stream: Stream | None, lease: Lease | None) -> None:
        """Tells the pull of the stream what to bring and from where; begins one where there is a lease."""
        node = self._registry.nodes.get(lease.node) if lease is not None else None
        pull = self.pulls.get(key)
        if pull is None:
            if lease is None or self.pull_services is None:
                return
            pull = self.pulls[key] = Pull(lease.entry.stream_id, self.pull_services)
            self._tasks.spawn(self._run(key, pull), f"pull-{key}")
        if lease is None and stream is None:
            pull.give_up()
        else:
            pull.turn_to(stream, node)

    async def _run(self, key: str, pull: Pull) -> None:
        try:
            await pull.run()
        except Exception:
            await asyncio.sleep(RETRY_S)  # It is begun anew below.
            raise
        finally:
            if self.pulls.get(key) is pull:
                del self.pulls[key]
            stream = self._streams.find(key)
            if stream is not None and stream.is_remote:
                self._on_wanted(stream)

    def _has_followers(self) -> bool:
        """Whether somebody here hears whoever talks; other nodes do not count."""
        followers = (session for session in self._sessions.active.values() if isinstance(session, FollowSession))
        return any(not follower.selection.own for follower in followers)

    # Nodes

    def _lease(self, name: str | None) -> Lease | None:
        return self._registry.leases.others.get(name_key(name)) if name is not None else None

    def _is_alive(self, lease: Lease) -> bool:
        return lease.node in self._registry.nodes

    def _name(self, node: str) -> str:
        known: NodeEntry | None = self._registry.nodes.get(node)
        return node if known is None else known.name


def _flows(stream: Stream) -> bool:
    """Whether its packets come."""
    newest_s = stream.track.last_packet_s
    return newest_s is not None and time.monotonic() - newest_s < FLOWS_S


def _entry(stream: Stream) -> StreamEntry:
    return StreamEntry(
        stream.id,
        stream.name,
        live=stream.is_live,
        paused=stream.paused,
        started_at=stream.started_at,
        rooms=stream.rooms,
        urgent=stream.urgent,
        via=stream.via,
        recording=stream.is_recorded,
    )
