"""The signalling WebSocket, from the upgrade to its end.

A message's way: text -> `Conversations` (how many) -> `messages.parse` -> `permissions.check` (which) -> `admit` (how
much) -> `Actions` -> the client's outbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging

from aiohttp import WSCloseCode, web

from ..access.admission import Admission
from ..process.failures import Failures
from ..process.figures import Figures
from ..process.refusal import Refused
from ..process.tasks import Tasks
from ..recording.recorder import Recorder
from ..sessions.sessions import Sessions
from ..sessions.states import ConnectionState
from ..settings.model import Settings
from ..streams.grants import Grant
from ..streams.registry import Streams
from ..streams.relay import VoiceRelay
from . import messages, permissions
from .actions import Actions
from .announcer import Announcer, RoomAnnouncer
from .client import Client
from .conversation import Conversations
from .meters import Meters
from .outbox import Outbox

logger = logging.getLogger(__name__)

CLOSED_TO_RETURN = 4000
"""The close code of a client that gives this socket up and comes back with another (RFC 6455 section 7.4.2)."""
_LOST = (None, WSCloseCode.ABNORMAL_CLOSURE, CLOSED_TO_RETURN)
"""Close codes of clients that did not leave for good."""


class Signalling:
    """All signalling sockets; `clients` by connection id."""

    def __init__(
        self,
        settings: Settings,
        relay: VoiceRelay,
        streams: Streams,
        sessions: Sessions,
        recorder: Recorder,
        admission: Admission,
        tasks: Tasks,
        failures: Failures,
    ) -> None:
        self.clients: dict[str, Client] = {}
        self._settings = settings.server
        self._sessions = sessions
        self._admission = admission
        self._tasks = tasks
        self._overflowed = 0
        self._left = asyncio.Event()
        """A client has gone."""
        self._meters = Meters(relay, failures)
        self._conversations = Conversations(settings.limits, admission.limits, self.clients)
        self.actions = Actions(streams, sessions, self._meters, tasks)
        announcer = Announcer(self.clients)
        streams.observe(announcer)
        recorder.observe(announcer)
        sessions.rooms.observe(RoomAnnouncer(self.clients, sessions.rooms))
        streams.observe(self._meters)

    def figures(self) -> Figures:
        return {"active_connections": len(self.clients), "slow_websockets_closed": self._overflowed}

    async def handle_socket(self, request: web.Request) -> web.StreamResponse:
        """One signalling socket. Before the upgrade it may get 401, 403, 429 or 503."""
        with self._admission.enter(request) as grant:
            return await self._serve(request, grant)

    async def handle_message(self, client: Client, text: str) -> None:
        """Does what the message asks, or answers with an `error` and changes nothing."""
        try:
            message = messages.parse(text)
            permissions.check(client.grant, message)
            if isinstance(message, messages.StartReceiving):
                await self._await_stream(client, message)
            async with self._conversations.admit(message, client):
                reply = await self.actions.act(client, message)
        except Refused as refusal:
            logger.debug("Connection %s: %s: %s", client.id, refusal.code, ascii(str(refusal)))
            client.send(messages.Error(refusal.code, str(refusal)))
            return
        except Exception:
            logger.exception("Connection %s: a message failed", client.id)
            client.send(messages.Error("internal", "The server failed at this; its log says why"))
            self._sessions.end(client, "server failed")
            return
        if reply is not None:
            client.send(reply)

    async def _await_stream(self, client: Client, message: messages.StartReceiving) -> None:
        """Waits for a stream that begins on demand; a follower does not wait for it."""
        if not message.is_following:
            await self._sessions.await_stream(client, message.stream_id)
        elif message.stream_id is not None:
            self._tasks.spawn(self._begin_on_demand(client, message.stream_id), f"begin-{client.id}")

    async def _begin_on_demand(self, client: Client, stream_id: str) -> None:
        with contextlib.suppress(Refused):
            await self._sessions.await_stream(client, stream_id)

    async def close_idle(self) -> None:
        """Closes the sockets that have been of no use for long."""
        await self._conversations.close_idle()

    async def move_clients(self, timeout_s: float) -> None:
        """Asks all to go to another server, and waits so long for them to have gone."""
        for client in list(self.clients.values()):
            client.send(messages.ServerMoving())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.clients:
                    self._left.clear()
                    await self._left.wait()

    async def close(self) -> None:
        """Ends all media, tells everyone that the server is stopping, and waits until the sockets are closed."""
        await asyncio.gather(*(self._dismiss(client) for client in list(self.clients.values())))

    async def _dismiss(self, client: Client) -> None:
        await self._sessions.release(client, "server stopping")
        await client.ws.close(WSCloseCode.GOING_AWAY, "server stopping")

    async def _serve(self, request: web.Request, grant: Grant) -> web.WebSocketResponse:
        settings = self._settings
        # Without compression: its state is a quarter of a megabyte for each socket. Pings are answered where they are
        # counted.
        ws = web.WebSocketResponse(
            heartbeat=settings.heartbeat_s, max_msg_size=settings.max_message_bytes, compress=False, autoping=False
        )
        await ws.prepare(request)
        assert request.transport is not None
        outbox = Outbox(ws, request.transport, settings.queue_size, settings.queue_bytes)
        client = Client(outbox, grant, self._admission.access.client_address(request))
        self.clients[client.id] = client
        writer = self._tasks.spawn(client.ws.run(), f"outbox-{client.id}")
        logger.debug("Connection %s from %s", client.id, client.address)
        try:
            client.send(await self.actions.list_streams(client))
            await self._conversations.converse(ws, client, functools.partial(self.handle_message, client))
        finally:
            await self.clean_up(client, left=ws.close_code not in _LOST)
            writer.cancel()
        return ws

    async def clean_up(self, client: Client, *, left: bool) -> None:
        """The socket is gone, and so is all that belonged to it; `left`: its client closed it in due form."""
        if client.ws.overflowed:
            self._overflowed += 1
        client.ws.end()
        client.end_quiet_with(None)
        self.clients.pop(client.id, None)
        self._left.set()
        self._meters.unsubscribe(client)
        await self._sessions.release(client, "sender left" if left else "sender lost", may_resume=not left)
        client.advance(ConnectionState.CLOSED)
