"""Streams exchanged with other servers: `sources` are pulled by WHEP, `targets` pushed to by WHIP."""

from __future__ import annotations

import functools

import aiohttp

from ..process.failures import Failures
from ..process.tasks import Tasks
from ..sessions.sessions import Sessions
from ..settings.model import ConfigError, PullSettings, PushSettings, Settings
from ..streams.names import name_key
from ..streams.registry import StreamObserver, Streams, StreamSupplier
from ..streams.stream import Stream
from .endpoint import Endpoint
from .link import Link, Services
from .pull import Pull
from .push import Push


class Exchange(StreamObserver, StreamSupplier):
    """All pulls and pushes. No other address is ever asked than those of the settings."""

    def __init__(self, settings: Settings, sessions: Sessions, streams: Streams, failures: Failures) -> None:
        """To be made with a running loop. Raises ConfigError when a `ca_file` cannot be read."""
        self._sessions = sessions
        self._streams = streams
        self._tasks = Tasks(failures)
        self._http: aiohttp.ClientSession | None = None
        self._pulls = {name_key(name): _pull(name, source) for name, source in settings.sources.items()}
        self._pushes = {
            name_key(name): [_push(name, index, target) for index, target in enumerate(targets)]
            for name, targets in settings.targets.items()
        }
        streams.observe(self)
        streams.supplied_by(self)

    @property
    def _links(self) -> list[Link]:
        return [*self._pulls.values(), *(push for pushes in self._pushes.values() for push in pushes)]

    def describe(self) -> list[dict[str, object]]:
        """For `/health`."""
        return [link.describe() for link in self._links]

    def start(self) -> None:
        if not self._links:
            return
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        services = Services(self._http, self._sessions, self._streams)
        for link in self._links:
            self._tasks.supervise(functools.partial(link.run, services), f"{link.direction}-{link.name}")

    async def close(self) -> None:
        """Ends every session at the other servers."""
        await self._tasks.cancel()
        if self._http is not None:
            await self._http.close()

    async def supply(self, stream_id: str) -> None:
        pull = self._pulls.get(name_key(stream_id))
        if pull is not None and pull.on_demand:
            await pull.demand()

    def on_stream_live(self, stream: Stream) -> None:
        if (pull := self._pulls.get(stream.key)) is not None:
            pull.on_live()
        # What is for rooms of this server is for nobody elsewhere.
        if not stream.rooms and not stream.is_remote:
            for push in self._pushes.get(stream.key, ()):
                push.on_live()

    def on_stream_moved(self, stream: Stream) -> None:
        """The server that its sender is with pushes it."""
        if stream.is_remote:
            self.on_stream_ended(stream, "moved")
        else:
            self.on_stream_live(stream)

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        for push in self._pushes.get(stream.key, ()):
            push.on_ended()


def _pull(name: str, source: PullSettings) -> Pull:
    endpoint = _endpoint(f"sources.{name}", source.whep, source.token, source.ca_file)
    return Pull(name, endpoint, on_demand=source.on_demand)


def _push(name: str, index: int, target: PushSettings) -> Push:
    return Push(name, _endpoint(f"targets.{name}.{index}", target.whip, target.token, target.ca_file))


def _endpoint(key: str, url: str, token: str, ca_file: str) -> Endpoint:
    try:
        return Endpoint(url, token, ca_file)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error}") from None
