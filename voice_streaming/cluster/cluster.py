"""This server as a node of a cluster: what is started and stopped with it, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import Callable

import aiohttp
from aiohttp import web
from msgspec import to_builtins
from msgspec.structs import replace

from ..network.addresses import addresses_listened_on, local_address
from ..process.failures import Failures
from ..process.figures import Figures
from ..process.tasks import Tasks
from ..rtc import Peers
from ..sessions.sessions import Sessions
from ..settings.model import ServerSettings, Settings
from ..streams.names import name_key
from ..streams.registry import Streams
from ..streams.rooms import Room, RoomObserver
from .entries import AudienceEntry, NodeEntry, RoomEntry
from .forwarding import forward, tls_of
from .mirror import Mirror
from .pull import PullServices
from .registry import Registry, RegistryObserver, RegistryUnavailable

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often is looked at what no event tells of."""
PROBE_TIMEOUT_S = 3.0
PROBE_AGAIN_S = 30.0
"""How often a node that could not be reached is tried again."""
MOST_AUDIENCES = 200
"""Of so many streams a node tells who hears them there."""
UNREACHABLE = "cluster-node-"
"""What problems begin with that are of one node, whose name follows."""


class Cluster(RegistryObserver, RoomObserver):
    """For a server whose settings have `cluster.url`."""

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        sessions: Sessions,
        peers: Peers,
        failures: Failures,
        version: str,
        fingerprint: Callable[[], str],
    ) -> None:
        """`fingerprint`: of this server's certificate now, as in `NodeEntry`. Raises ConfigError."""
        name = settings.cluster.node_name or _default_name(settings.server)
        url = settings.cluster.advertise_url or _default_url(settings.server)
        node = NodeEntry(secrets.token_hex(4), name, url, version=version, started_at=time.time())
        self.registry = Registry(settings.cluster, node, failures)
        self._tasks = Tasks(failures)
        self.mirror = Mirror(self.registry, streams, sessions, settings.streams, self._tasks)
        self._streams = streams
        self._sessions = sessions
        self._peers = peers
        self._failures = failures
        self._fingerprint = fingerprint
        self._http: aiohttp.ClientSession | None = None
        self._is_draining = False
        self._quiet: dict[str, float] = {}
        """By the keys of rooms: monotonic seconds until which each is not to be disturbed."""
        self._probed_s: dict[str, float] = {}
        self._unreachable: dict[str, str] = {}
        """By id: names of the nodes that could not be reached."""
        streams.node = name
        self.registry.observe(self)
        sessions.rooms.observe(self)

    @property
    def node(self) -> NodeEntry:
        """This server."""
        return self.registry.node

    def start(self) -> None:
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self.mirror.pull_services = PullServices(
            self._http,
            self._streams,
            self._peers,
            self._tasks,
            lambda: self.registry.secrets[0],
            self._note_reached,
        )
        self._tasks.supervise(self._look, "cluster-look")
        self._tasks.supervise(self.registry.run, "cluster-registry")

    async def close(self) -> None:
        """Gives all streams back that are still this server's."""
        await self._tasks.cancel()
        await self.registry.close()
        if self._http is not None:
            await self._http.close()

    def drain(self) -> None:
        """Tells the others that this node stops soon."""
        self._is_draining = True
        self._describe_node()

    @property
    def node_id(self) -> str:
        return self.node.id

    async def forward(self, request: web.Request, node_id: str) -> web.Response:
        """The answer of the node that has what is asked for. Raises 404 for one that is not there, 413, 502."""
        node = self.registry.nodes.get(node_id)
        if node is None or self._http is None:
            raise web.HTTPNotFound(text="There is no such session\n")
        return await forward(self._http, request, node)

    # Figures

    def describe(self) -> dict[str, object]:
        """For `/health`."""
        registry = self.registry
        return {
            "node": self.node.name,
            "id": self.node.id,
            "url": self.node.url,
            "registry": "connected" if registry.is_connected else "away",
            "nodes": sorted(node.name for node in registry.nodes.values()),
            "unreachable": sorted(self._unreachable.values()),
            "leases": len(registry.leases.own),
            "pulls": sum(pull.is_connected for pull in self.mirror.pulls.values()),
            "registry_latency_ms": round(registry.latency_s * 1000, 1),
            "reconnects": registry.reconnects,
            "draining": self._is_draining,
        }

    def figures(self) -> Figures:
        """By the names they have in `/metrics`."""
        registry = self.registry
        return {
            "cluster_nodes": len(registry.nodes) + 1,
            "cluster_leases": len(registry.leases.own),
            "cluster_remote_streams": len(registry.leases.others),
            "cluster_pulls": sum(pull.is_connected for pull in self.mirror.pulls.values()),
            "cluster_registry_connected": registry.is_connected,
            "cluster_registry_latency_seconds": round(registry.latency_s, 6),
            "cluster_registry_reconnects_total": registry.reconnects,
            "cluster_registry_readings_total": registry.readings,
            "cluster_registry_operations_total": registry.operations,
            "cluster_refused_entries_total": registry.refused_entries,
        }

    async def overview(self) -> dict[str, object]:
        """For `/api/cluster`: each node and its streams. Where the registry is away, what is known."""
        try:
            nodes = await self.registry.read_nodes()
        except RegistryUnavailable:
            nodes = [self.node, *self.registry.nodes.values()]
        leases = [*self.registry.leases.own.values(), *self.registry.leases.others.values()]
        pulled = {key for key, pull in self.mirror.pulls.items() if pull.is_connected}
        return {
            "node": self.node.id,
            "registry": "connected" if self.registry.is_connected else "away",
            "nodes": [
                {
                    **to_builtins(node),
                    "streams": [
                        {**to_builtins(lease.entry), "pulled": lease.entry.key in pulled}
                        for lease in leases
                        if lease.node == node.id and lease.entry.live
                    ],
                }
                for node in sorted(nodes, key=lambda node: (node.name, node.id))
            ],
        }

    # Rooms

    def on_room_changed(self, room: Room) -> None:
        self._describe_node()

    def on_room_quiet(self, room: Room, left_s: float) -> None:
        self._tasks.spawn(self._tell_quiet(room.key, left_s), f"quiet-{room.key}")

    async def _tell_quiet(self, room_key: str, left_s: float) -> None:
        with contextlib.suppress(RegistryUnavailable):
            await self.registry.set_quiet(room_key, left_s)

    def on_quiet(self, room_key: str, left_s: float) -> None:
        self._quiet[room_key] = time.monotonic() + left_s
        self._quieten(room_key)

    def _quieten(self, room_key: str) -> None:
        room = self._sessions.rooms.find(room_key)
        until_s = self._quiet.get(room_key, 0.0)
        left_s = max(0.0, until_s - time.monotonic())
        if room is not None and abs((room.quiet_until_s or 0.0) - (until_s if left_s else 0.0)) > 1:
            self._sessions.rooms.be_quiet(room, left_s)
        if not left_s:
            self._quiet.pop(room_key, None)

    # Nodes

    def on_nodes(self) -> None:
        presence: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for node in self.registry.nodes.values():
            for room in node.rooms:
                receivers, listeners = presence[room.name]
                presence[room.name] = (receivers + room.receivers, listeners + room.listeners)
        self._sessions.rooms.note_elsewhere(presence)
        self._count_audiences()
        for room_key in list(self._quiet):
            self._quieten(room_key)
        self._probed_s = {node: at_s for node, at_s in self._probed_s.items() if node in self.registry.nodes}
        for node_id in [node_id for node_id in self._unreachable if node_id not in self.registry.nodes]:
            self._note_gone(node_id)

    def _count_audiences(self) -> None:
        heard: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for node in self.registry.nodes.values():
            for audience in node.audiences:
                receivers, listeners = heard[name_key(audience.stream_id)]
                heard[name_key(audience.stream_id)] = (receivers + audience.receivers, listeners + audience.listeners)
        for stream in self._streams.active.values():
            stream.elsewhere = heard.get(stream.key, (0, 0))

    def _audiences(self) -> tuple[AudienceEntry, ...]:
        heard = [s for s in self._streams.active.values() if s.is_live and (s.receivers or s.listeners)]
        heard.sort(key=lambda stream: -len(stream.receivers) - stream.listeners)
        return tuple(AudienceEntry(s.id, len(s.receivers), s.listeners) for s in heard[:MOST_AUDIENCES])

    async def _look(self) -> None:
        while True:
            self.mirror.reconcile()
            self._describe_node()
            self._count_audiences()
            now_s = time.monotonic()
            for node in list(self.registry.nodes.values()):
                due_s = self._probed_s.get(node.id)
                if due_s is None or (node.id in self._unreachable and now_s - due_s > PROBE_AGAIN_S):
                    self._probed_s[node.id] = now_s
                    self._tasks.spawn(self._probe(node), f"probe-{node.id}")
            await asyncio.sleep(LOOK_S)

    def _describe_node(self) -> None:
        rooms = self._sessions.rooms.visible()
        present = [room for room in rooms if room.receivers or room.listeners]
        own = self._streams.own()
        self.registry.describe_node(
            replace(
                self.node,
                draining=self._is_draining,
                fingerprint=self._fingerprint() if self.node.url.startswith("https:") else "",
                receivers=sum(len(stream.receivers) for stream in self._streams.active.values()),
                listeners=sum(stream.listeners for stream in self._streams.active.values()),
                streams=sum(stream.is_live for stream in own),
                pulls=len(self.mirror.pulls),
                audiences=self._audiences(),
                rooms=tuple(RoomEntry(room.name, len(room.receivers), room.listeners) for room in present),
                unreachable=tuple(sorted(self._unreachable.values())),
            )
        )

    async def _probe(self, node: NodeEntry) -> None:
        """Whether the others' addresses are of use is to be known before somebody wants to hear anything."""
        assert self._http is not None
        try:
            timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
            async with self._http.get(f"{node.url}/health", ssl=tls_of(node), timeout=timeout, allow_redirects=False):
                self._note_reached(node, None)
        except TimeoutError:
            self._note_reached(node, "it does not answer")
        except (aiohttp.ClientError, ValueError) as error:
            self._note_reached(node, str(error) or type(error).__name__)

    def _note_reached(self, node: NodeEntry, problem: str | None) -> None:
        if problem is None:
            self._note_gone(node.id)
        elif node.id in self.registry.nodes:
            self._unreachable[node.id] = node.name
            text = f"{node.url} cannot be reached from here: {problem}. Is cluster.advertise_url of {node.name} right?"
            self._failures.hold(UNREACHABLE + node.name, text)

    def _note_gone(self, node_id: str) -> None:
        if (name := self._unreachable.pop(node_id, None)) is not None and name not in self._unreachable.values():
            self._failures.release(UNREACHABLE + name)


def _default_name(server: ServerSettings) -> str:
    name = socket.gethostname().partition(".")[0] or "node"
    return name if server.port == ServerSettings().port else f"{name}-{server.port}"


def _default_url(server: ServerSettings) -> str:
    address = next(iter(addresses_listened_on(server.host)), None) or local_address(server.host)
    return f"http://[{address}]:{server.port}" if ":" in address else f"http://{address}:{server.port}"
