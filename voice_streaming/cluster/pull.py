"""One voice of another node, brought here by WHEP for as long as somebody here takes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from ..exchange.backoff import Backoff
from ..exchange.endpoint import Endpoint, EndpointError, RemoteSession
from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..rtc import Peers, SenderPeer
from ..streams.registry import Streams
from ..streams.stream import Stream
from ..streams.track import OpusTrack
from .entries import NodeEntry
from .forwarding import tls_of

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 1.0
"""How long a node that sends nothing may take to answer an ICE check."""
BEGIN_LOOK_S = 0.1
"""How often it is looked whether an answer is still waited for."""
LINGER_S = 10.0
"""How long a voice is still brought after its last consumer: a page that is loaded again comes back."""
LINGER_RESERVED_S = 600.0
"""The same while the sender is there and does not talk: its next word is to be heard from the begin."""
LOOK_S = 1.0
"""How often it is looked whether a pull is still of use."""


@dataclass(frozen=True)
class PullServices:
    """What pulls work with."""

    http: aiohttp.ClientSession
    streams: Streams
    peers: Peers
    tasks: Tasks
    secret: Callable[[], str]
    on_reached: Callable[[NodeEntry, str | None], None]
    """Told whether a node was reached: why it was not, or None."""


class Pull:
    """Brings what `turn_to` says, from the node that `turn_to` says. `run` ends when nobody takes it any more."""

    def __init__(self, stream_id: str, services: PullServices) -> None:
        self.stream_id = stream_id
        self.is_connected = False
        self._services = services
        self._node: NodeEntry | None = None
        self._stream: Stream | None = None
        self._peer: SenderPeer | None = None
        self._is_lost = self._is_over = False
        self._has_paused = False
        """Whether the stream pauses because nothing comes, and not because its owner says so."""
        self._packets = 0
        """Of the stream, when it was looked last."""
        self._changed = asyncio.Event()
        self._used_s = asyncio.get_running_loop().time()
        self._backoff = Backoff()

    def turn_to(self, stream: Stream | None, node: NodeEntry | None) -> None:
        """What to publish, None while its sender does not talk, and whose it is, None while that is not known."""
        self._is_over = False
        self._node = node
        if stream is not self._stream:
            self._stream = stream
            if self._peer is not None and stream is None:
                self._peer.withhold()
            elif self._peer is not None and stream is not None:
                self._peer.withhold()
                self._peer.publish_on(stream.track)
        self.look()

    def give_up(self) -> None:
        """There is nothing to bring any more."""
        self._is_over = True
        self.look()

    def look(self) -> None:
        """Something has changed."""
        self._changed.set()

    async def run(self) -> None:
        while self._is_needed():
            node = self._node
            if node is None:
                await self._wait(LOOK_S)
                continue
            try:
                await self._bring(node)
                self._backoff.reset()
            except (EndpointError, Refused) as error:
                logger.info("%s cannot be had from %s: %s", ascii(self.stream_id), node.name, error)
                is_away = isinstance(error, EndpointError) and not error.has_answered
                self._services.on_reached(node, str(error) if is_away else None)
                self._pause()
                if self._node is node:
                    await self._wait(self._backoff.next_s())

    async def _bring(self, node: NodeEntry) -> None:
        """Returns when it is not needed, or another node has it. Raises EndpointError and Refused."""
        services = self._services
        address = f"{node.url}/whep/{quote(self.stream_id, safe='')}"
        endpoint = Endpoint(address, services.secret(), tls=tls_of(node))
        peer, remote = self._new_peer(), None
        self._peer = peer
        try:
            remote = await self._begin(endpoint, await peer.offer(), node)
            if remote is None:
                return
            services.on_reached(node, None)
            await peer.accept(remote.answer)
            peer.connect_within(CONNECT_TIMEOUT_S)
            while self._is_needed() and self._is_still(node):
                if self._is_lost or not await self._is_there(peer):
                    raise EndpointError("The connection is lost", has_answered=True)
                await self._wait(LOOK_S)
        finally:
            self.is_connected, self._peer = False, None
            ending = self._end(peer, endpoint, remote)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                await ending
            else:
                # A node that is gone may take a second not to answer, and the next one has the stream.
                services.tasks.spawn(ending, f"end-pull-{self.stream_id}")

    async def _end(self, peer: SenderPeer, endpoint: Endpoint, remote: RemoteSession | None) -> None:
        await peer.close()
        if remote is not None:
            await endpoint.end(self._services.http, remote)

    async def _begin(self, endpoint: Endpoint, offer: str, node: NodeEntry) -> RemoteSession | None:
        """None once it is not needed any more, or another node has it: one that is frozen may take long to answer."""
        beginning = asyncio.ensure_future(endpoint.begin(self._services.http, offer))
        try:
            while not beginning.done() and self._is_needed() and self._is_still(node):
                await asyncio.wait([beginning], timeout=BEGIN_LOOK_S)
            return beginning.result() if beginning.done() else None
        finally:
            beginning.cancel()

    async def _is_there(self, peer: SenderPeer) -> bool:
        """Whether packets come, or the other side answers at least: a node that died says nothing."""
        stream = self._stream
        packets = 0 if stream is None else stream.track.packets
        has_come, self._packets = packets != self._packets, packets
        if has_come or not self.is_connected:
            return True
        asking = asyncio.ensure_future(peer.answers(ANSWER_TIMEOUT_S))
        news = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait([asking, news], return_when=asyncio.FIRST_COMPLETED)
            return not asking.done() or asking.result()
        finally:
            asking.cancel()
            news.cancel()

    def _new_peer(self) -> SenderPeer:
        stream = self._stream
        peer = self._services.peers.sender(OpusTrack() if stream is None else stream.track, apart=True)
        if stream is None:
            peer.withhold()
        self._is_lost = False
        peer.on_connected = self._on_connected
        peer.on_gone = self._on_gone
        peer.on_silent = _no_op  # Its sender pauses, or does not talk.
        peer.on_heard = _no_op
        return peer

    def _on_connected(self) -> None:
        self.is_connected = True
        if self._stream is not None and self._has_paused:
            self._services.streams.resume(self._stream)
        self._has_paused = False

    def _on_gone(self, reason: str) -> None:
        self._is_lost = True
        self._changed.set()

    def _pause(self) -> None:
        """Nothing comes now, whatever its owner says of it."""
        stream = self._stream
        if stream is not None and stream.is_remote and stream.is_live and not stream.paused:
            self._has_paused = True
            self._services.streams.pause_silent(stream, "source lost")

    def _is_still(self, node: NodeEntry) -> bool:
        present = self._node
        return present is None or (present.id, present.url) == (node.id, node.url)

    def _is_needed(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        if self._is_over or (self._stream is not None and not self._stream.is_remote):
            return False
        if self._stream is not None and self._stream.track.is_wanted:
            self._used_s = now_s
        return now_s - self._used_s < (LINGER_RESERVED_S if self._stream is None else LINGER_S)

    async def _wait(self, seconds: float) -> None:
        """Or until something has changed, since the last time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()


def _no_op() -> None:
    """A callback that is not needed."""
