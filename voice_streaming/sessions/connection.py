"""A client that publishes or subscribes, on any transport."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from ..rtc import ReceiverPeer, SenderPeer
from ..streams.grants import EVERYTHING, Grant
from ..streams.rooms import Room
from ..streams.stream import InvalidTransition, Stream
from .session import Session
from .states import NEXT_STATES, ConnectionState, Role

logger = logging.getLogger(__name__)


class Connection:
    """A client with one session at a time. `pc`, `role` and `stream_id` are the architecture's names.

    Each transport has a subclass, which passes on what the client is to be told.
    """

    is_server = False
    """Whether it is another server, which may have several connections with this one."""

    def __init__(self, grant: Grant = EVERYTHING, address: str = "", via: str = "websocket") -> None:
        self.id = str(uuid.uuid4())
        self.grant = grant
        self.address = address
        """Where it came from, for the log."""
        self.via = via
        """Its transport: `websocket`, `whip` or `whep`."""
        self.state = ConnectionState.CREATED
        self.session: Session | None = None

    @property
    def pc(self) -> SenderPeer | ReceiverPeer | None:
        return self.session.peer if self.session is not None else None

    @property
    def role(self) -> Role | None:
        return self.session.role if self.session is not None else None

    @property
    def stream_id(self) -> str | None:
        return self.session.stream_id if self.session is not None else None

    def advance(self, state: ConnectionState) -> None:
        """The only place where the state changes; a step to the present state is none. Raises InvalidTransition."""
        if state is self.state:
            return
        if state not in NEXT_STATES[self.state]:
            raise InvalidTransition(f"connection {self.id}: {self.state.value} -> {state.value}")
        logger.debug("Connection %s: %s -> %s", self.id, self.state.value, state.value)
        self.state = state

    def on_session_ended(self) -> None:
        """Its session has ended, for whatever reason."""

    def on_media_lost(self, reason: str) -> None:
        """Its WebRTC connection is lost; `reason` is `rtc.LEFT` if the client closed it."""

    def on_stream_ended(self, stream_id: str, reason: str) -> None:
        """What it publishes ended for it alone: the stream goes on with another sender, or was over before it came."""

    def on_talking(self, stream: Stream) -> None:
        """Its stream is live, and the first packet was passed on; or it is not, as the client stopped talking."""

    def on_fed(self, room: Room | None, voices: Sequence[Stream], shared: bool) -> None:
        """It hears these now, the newest last, or nobody; in that room, if it stands in one.

        `shared`: voices that it does not want to hear are in it as well."""
