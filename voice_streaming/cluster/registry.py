"""The registry of a cluster: who has which stream, who is there, and which rooms are quiet. Redis keeps it.

While Redis is away everything stays as it was known last, and claims raise `RegistryUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..process.failures import Failures
from ..process.refusal import Refused
from ..settings.model import ClusterSettings
from . import scripts
from .entries import BadEntry, Lease, NodeEntry, StreamEntry, decode, encode, is_number, read_lease
from .leases import Changes, Leases
from .redis_link import FAILURES, Unusable, check_version, connect, explained

logger = logging.getLogger(__name__)

RENEWAL_S = 2.0
"""A third of a lease."""
CHANGE_DELAY_S = 0.01
"""What changes within it is told at once."""
DEAF_AFTER_S = 5.0
"""A subscription on which our own pings have not come for so long is of no use: the client may not notice a cut."""
RETRY_S = 0.5
RETRY_UNUSABLE_S = 5.0
"""Where somebody has to do something before."""
CLOSE_TIMEOUT_S = 1.0
PROBLEM = "cluster"
_TOLD = ("url", "fingerprint", "draining", "rooms", "audiences", "unreachable")
"""Fields of a node that others are told of at once; its counts they read when somebody asks."""


class RegistryUnavailable(Exception):
    """Redis is away."""


class RegistryObserver:
    """To be subclassed. Own leases are told of only where they are lost."""

    def on_lease(self, lease: Lease) -> None:
        """Another node has a stream, or says something else of it."""

    def on_released(self, lease: Lease) -> None:
        """Another node gave it back."""

    def on_gone(self, lease: Lease) -> None:
        """It is not there any more, and nobody gave it back."""

    def on_lost(self, lease: Lease) -> None:
        """The stream was ours; this is who has it now. `on_lease` follows."""

    def on_nodes(self) -> None:
        """Others are there, or one says something else of itself."""

    def on_quiet(self, room_key: str, left_s: float) -> None:
        """The room is not to be disturbed for so long; 0: no more."""

    def on_connected(self) -> None:
        """All that there is has been told, after the start and after each time that Redis was away."""


class Registry:
    """`leases` and `nodes` are what is known; `nodes` does not have this one."""

    def __init__(self, settings: ClusterSettings, node: NodeEntry, failures: Failures) -> None:
        """Raises ConfigError for a `ca_file` that cannot be read."""
        self.node = node
        self.leases = Leases(node.id)
        self.nodes: dict[str, NodeEntry] = {}
        self.is_connected = False
        self.secrets: tuple[str, ...] = (settings.secret or secrets.token_urlsafe(32),)
        """By which nodes know each other: the one to use, and those before it, which others may still use."""
        self.latency_s = 0.0
        """Of the newest renewal."""
        self.operations = self.reconnects = self.readings = self.refused_entries = 0
        self._has_own_secret = bool(settings.secret)
        self._failures = failures
        self._observers: list[RegistryObserver] = []
        self._client = connect(settings)
        self._prefix = f"{{{settings.prefix}}}"
        self._scripts = {
            text: self._client.register_script(text)
            for text in (scripts.CLAIM, scripts.RENEW, scripts.RELEASE, scripts.LEAVE, scripts.QUIET, scripts.READ)
        }
        self._dirty: set[str] = set()
        self._released: dict[str, Lease] = {}
        """To be given back, by key."""
        self._is_told = False
        """Whether the others know this node as it is."""
        self._wake = asyncio.Event()
        self._sequence = 0
        """Up to which change everything is known."""
        self._told = 0
        """The number of the newest that was told on this subscription."""
        self._heard_s = 0.0

    def observe(self, observer: RegistryObserver) -> None:
        self._observers.append(observer)

    async def run(self) -> None:
        """Keeps up with Redis until cancelled, however often that goes away."""
        while True:
            delay_s = RETRY_S
            try:
                await self._serve()
            except (*FAILURES, Unusable) as error:
                self._failures.hold(PROBLEM, f"This server is alone: {explained(error)}")
                if self.is_connected or not self.reconnects:
                    logger.warning("The cluster's registry is away: %s", explained(error))
                if isinstance(error, Unusable):
                    delay_s = RETRY_UNUSABLE_S
            finally:
                self.is_connected = False
            self.reconnects += 1
            await asyncio.sleep(delay_s)

    async def close(self) -> None:
        """Gives everything back, as far as Redis does that in CLOSE_TIMEOUT_S."""
        for key in list(self.leases.own):
            self.release(key)
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._give_back()
                await self._run(scripts.LEAVE, self.node.id)
        with contextlib.suppress(*FAILURES):
            await self._client.aclose()

    async def claim(self, entry: StreamEntry, resume: str, *, proof: str = "", takes: bool = False) -> None:
        """Makes the stream this node's. `resume`: the digest of the key with which it is taken up again, `proof` of one
        that the claimant brings; `takes`: from whoever has it.

        Raises Refused `name_taken`, RegistryUnavailable.
        """
        key = entry.key
        least = str(self.leases.highest_epoch(key))
        answer, value = await self._ask(
            scripts.CLAIM, key, self.node.id, least, proof, "1" if takes else "", resume, encode(entry)
        )
        try:
            lease = read_lease(value)
        except BadEntry as error:
            self._refuse(error)
            raise RegistryUnavailable(str(error)) from None
        if answer == "taken":
            self._tell(self.leases.learn(lease))
            raise Refused("name_taken", f"{lease.entry.name} is in use by another sender: choose another name")
        self._released.pop(key, None)
        self.leases.claimed(lease)

    def describe(self, entry: StreamEntry, resume: str | None = None) -> None:
        """What our stream is like now; told soon. Without a lease of ours it is passed over.

        `resume`: the digest of the key with which it is taken up again; None: the same as before.
        """
        if self.leases.describe(entry, resume):
            self._dirty.add(entry.key)
            self._wake.set()

    def release(self, key: str) -> None:
        """Gives the stream back; safe when it is not ours."""
        if (lease := self.leases.give_back(key)) is not None:
            self._released[key] = lease
            self._dirty.discard(key)
            self._wake.set()

    def describe_node(self, node: NodeEntry) -> None:
        """What this node is like now."""
        if any(getattr(node, name) != getattr(self.node, name) for name in _TOLD):
            self._is_told = False
            self._wake.set()
        self.node = node

    async def set_quiet(self, room_key: str, left_s: float) -> None:
        """Raises RegistryUnavailable."""
        await self._ask(scripts.QUIET, room_key, str(max(0, round(left_s * 1000))))

    async def read_nodes(self) -> list[NodeEntry]:
        """All, this one included, with their present counts. Raises RegistryUnavailable."""
        _, nodes, *_ = await self._ask(scripts.READ)
        return [node for node in map(self._node_of, nodes) if node is not None]

    # Within

    async def _serve(self) -> None:
        await check_version(self._client)
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(f"{self._prefix}:changes", f"{self._prefix}:ping:{self.node.id}")
            self._heard_s, self._told = time.monotonic(), 0
            await self._renew(list(self.leases.own))
            await self._read()
            self.is_connected = True
            self._failures.release(PROBLEM)
            logger.info("The cluster's registry is there: %d other nodes", len(self.nodes))
            self._notify(lambda observer: observer.on_connected())
            await _until_one_fails(self._listen(subscription), self._keep_up())

    async def _keep_up(self) -> None:
        """Renews everything every RENEWAL_S, and tells what changes in between."""
        while True:
            begun_s = time.monotonic()
            await self._renew(list(self.leases.own))
            self.latency_s = time.monotonic() - begun_s
            if time.monotonic() - self._heard_s > DEAF_AFTER_S:
                raise TimeoutError
            while (left_s := begun_s + RENEWAL_S - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._wake.wait()
                        await asyncio.sleep(CHANGE_DELAY_S)
                if self._wake.is_set():
                    self._wake.clear()
                    await self._give_back()
                    if self._dirty or not self._is_told:
                        await self._renew(list(self._dirty))

    async def _renew(self, keys: list[str]) -> None:
        own = {key: self.leases.own[key] for key in keys if key in self.leases.own}
        changed, self._is_told = not self._is_told, True
        self._dirty.difference_update(own)
        pairs = [text for key, lease in own.items() for text in (key, lease.value)]
        flags = ("1" if changed else "", self.secrets[0], str(time.monotonic()))
        try:
            answer = await self._run(scripts.RENEW, self.node.id, encode(self.node), *flags, *pairs)
        except BaseException:
            self._dirty.update(own)
            self._is_told = not changed and self._is_told
            raise
        sequence, secret, alive, lost = answer
        self._use_secret(secret)
        for key, value in zip(lost[::2], lost[1::2], strict=True):
            self._learn(key, value)
        self._drop_dead(set(alive))
        is_news = int(sequence) < self._sequence or not set(alive) <= {self.node.id, *self.nodes}
        if self.is_connected and is_news:
            await self._read()  # Redis was emptied, or a change was missed.

    async def _give_back(self) -> None:
        released, self._released = self._released, {}
        if released:
            try:
                await self._run(scripts.RELEASE, *(t for key, lease in released.items() for t in (key, lease.value)))
            except BaseException:
                self._released = released | self._released
                raise

    async def _listen(self, subscription: Any) -> None:
        while True:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=DEAF_AFTER_S)
            if message is None:
                continue
            if message["channel"].endswith(f":ping:{self.node.id}"):
                self._heard_s = time.monotonic()
                continue
            number, _, rest = message["data"].partition("\n")
            if not is_number(number):
                continue
            before, self._told = self._told, int(number)
            if self._told <= before or self._told > self._sequence + 1:
                await self._read()  # Redis has forgotten the numbers, or one was missed.
                continue
            if self._told <= self._sequence:
                continue  # It was read already.
            self._sequence = self._told
            kind, _, text = rest.partition("\n")
            self._hear(kind, text)

    def _hear(self, kind: str, text: str) -> None:
        key, _, value = text.partition("\n")
        if kind == "lease":
            self._learn(key, value)
        elif kind == "released":
            if (lease := self._lease_of(key, value)) is not None and self.leases.learn_release(lease) is not None:
                self._notify(lambda observer: observer.on_released(lease))
        elif kind == "node":
            if (node := self._node_of(text)) is not None and node.id != self.node.id:
                self.nodes[node.id] = node
                self._notify(lambda observer: observer.on_nodes())
        elif kind == "node_gone":
            self._drop_dead(set(self.nodes) - {text})
        elif kind == "quiet" and is_number(value):
            self._note_quiet(key, int(value) / 1000)

    async def _read(self) -> None:
        """Everything anew."""
        self.readings += 1
        sequence, nodes, keys, values, rooms, left_ms = await self._run(scripts.READ)
        self._sequence = int(sequence)
        found = {node.id: node for node in map(self._node_of, nodes) if node is not None and node.id != self.node.id}
        if found != self.nodes:
            self.nodes = found
            self._notify(lambda observer: observer.on_nodes())
        leases = {}
        for key, value in zip(keys, values, strict=True):
            if value and (lease := self._lease_of(key, value)) is not None:
                leases[key] = lease
        # In the order in which they came about.
        self._tell(self.leases.learn_all(dict(sorted(leases.items(), key=lambda item: item[1].rank))))
        for room, left in zip(rooms, left_ms, strict=True):
            self._note_quiet(room, max(0, int(left)) / 1000)

    def _note_quiet(self, room_key: str, left_s: float) -> None:
        self._notify(lambda observer: observer.on_quiet(room_key, left_s))

    def _learn(self, key: str, value: str) -> None:
        if (lease := self._lease_of(key, value)) is not None:
            self._tell(self.leases.learn(lease))

    def _tell(self, changes: Changes) -> None:
        for observer in self._observers:
            for call, leases in (
                (observer.on_lost, changes.lost),
                (observer.on_lease, changes.changed),
                (observer.on_gone, changes.gone),
            ):
                for lease in leases:
                    with self._guard(observer):
                        call(lease)

    def _drop_dead(self, alive: set[str]) -> None:
        dead = [node for node in self.nodes if node not in alive]
        for node in dead:
            del self.nodes[node]
        if dead:
            self._notify(lambda observer: observer.on_nodes())

    def _use_secret(self, secret: str | None) -> None:
        if secret and not self._has_own_secret and secret != self.secrets[0]:
            self.secrets = (secret, *self.secrets[:1])

    def _lease_of(self, key: str, value: str) -> Lease | None:
        try:
            lease = read_lease(value)
            if lease.entry.key != key:
                raise BadEntry("it is of another stream")
            return lease
        except BadEntry as error:
            self._refuse(error)
            return None

    def _node_of(self, text: str) -> NodeEntry | None:
        try:
            return decode(text, NodeEntry) if text else None
        except BadEntry as error:
            self._refuse(error)
            return None

    def _refuse(self, error: BadEntry) -> None:
        self.refused_entries += 1
        logger.debug("An entry of the cluster's registry is refused: %s", error)

    async def _ask(self, script: str, *arguments: str) -> Any:
        """For callers outside of `run`."""
        if not self.is_connected:
            raise RegistryUnavailable
        try:
            return await self._run(script, *arguments)
        except FAILURES as error:
            raise RegistryUnavailable(explained(error)) from None

    async def _run(self, script: str, *arguments: str) -> Any:
        self.operations += 1
        return await self._scripts[script](keys=[self._prefix], args=list(arguments))

    def _notify(self, call: Callable[[RegistryObserver], None]) -> None:
        for observer in self._observers:
            with self._guard(observer):
                call(observer)

    def _guard(self, observer: RegistryObserver) -> contextlib.AbstractContextManager[None]:
        return self._failures.guard(f"observer-{type(observer).__name__}")


async def _until_one_fails(*works: Coroutine[Any, Any, None]) -> None:
    """Runs all of them, and raises what the first one fails with."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        while running := [task for task in tasks if not task.done()]:
            for task in running:
                task.cancel()
            # Again, as a client of Redis that is cancelled while it reads may take that for a lost connection.
            await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)
