"""Three nodes, each a host with an address of its own, a Redis, proxies and browsers: all in network namespaces.

The hub is where Redis, proxies, browsers and the test itself are; the nodes hang on its bridge. None of them reaches
any other network.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.availability import require_linux, require_program, unavailable
from tests.support.cluster import node_config, until_known
from tests.support.ports import free_port
from tests.support.process import ChildProcess, child_process
from tests.support.proxies import nginx_folders, until_it_listens
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import REPOSITORY, RunningServer, ServerFailed, running_server

NAMES = ("one", "two", "three")
_CLONE_NEWNET = 0x40000000
_DOCUMENT = REPOSITORY / "docs" / "cluster.md"
_DOCUMENTED_PORT = 8000


@dataclass
class Campus:
    """`hub` and `hosts` are names of namespaces, `addresses` those of the hosts, by the names of the nodes."""

    hub: str
    hosts: dict[str, str]
    addresses: dict[str, str]
    redis_address: str
    address: str
    """The hub's own."""
    redis: RedisServer | None = None
    nodes: dict[str, RunningServer] = field(default_factory=dict)
    stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, name: str) -> RunningServer:
        """A node; started again it has the ports of before."""
        assert self.redis is not None
        former = self.nodes.get(name)
        ports = None if former is None else (former.port, former.audio_port)
        stack = AsyncExitStack()
        trusted = {"access": {"trusted_proxies": [self.redis_address, "127.0.0.1"]}}
        server = await stack.enter_async_context(
            running_server(
                node_config(self.redis, name, trusted),
                host=self.addresses[name],
                namespace=self.hosts[name],
                ports=ports,
            )
        )
        self.nodes[name], self.stacks[name] = server, stack
        return server

    async def stop(self, name: str) -> None:
        """As systemd would."""
        await self.stacks.pop(name).aclose()

    async def kill(self, name: str) -> None:
        """As a power cut would."""
        self.nodes[name].process.send_signal(signal.SIGKILL)
        with suppress(ServerFailed):
            await self.stop(name)

    def cut(self, name: str, *addresses: str) -> None:
        """The host reaches these addresses no more, until `mend`; nor do they reach it."""
        for address in addresses:
            _ip("-netns", self.hosts[name], "route", "add", "blackhole", f"{address}/32")

    def mend(self, name: str, *addresses: str) -> None:
        for address in addresses:
            _ip("-netns", self.hosts[name], "route", "delete", "blackhole", f"{address}/32")


@contextmanager
def within(namespace: str) -> Iterator[None]:
    """Sockets and programs that this thread opens while the block runs belong to that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(libc, there)
        try:
            yield
        finally:
            _enter(libc, here)
    finally:
        os.close(there)
        os.close(here)


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@asynccontextmanager
async def campus() -> AsyncIterator[Campus]:
    """Three nodes that know each other; the test is in the hub while the block runs. Only root can have one."""
    require_linux("A network namespace")
    require_program("ip")
    if os.geteuid() != 0:
        unavailable("a network namespace needs root")
    number = random.SystemRandom().randrange(1, 250)
    hub, network = f"hub{number}", f"10.215.{number}"
    made = Campus(
        hub,
        {name: f"{hub}-{name}" for name in NAMES},
        {name: f"{network}.{11 + index}" for index, name in enumerate(NAMES)},
        f"{network}.2",
        f"{network}.1",
    )
    try:
        _ip("netns", "add", hub)
    except subprocess.CalledProcessError as error:
        unavailable(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        _connect(made, network)
        with within(hub):
            async with AsyncExitStack() as stack:
                made.redis = await stack.enter_async_context(redis_server(host=made.redis_address))
                for name in NAMES:
                    await made.start(name)
                for name in NAMES:
                    await until_known(made.nodes[name], *(other for other in NAMES if other != name))
                try:
                    yield made
                finally:
                    for name in list(made.stacks):
                        await made.stop(name)
    finally:
        for namespace in (*made.hosts.values(), hub):
            _delete(namespace)


def _connect(made: Campus, network: str) -> None:
    _ip("-netns", made.hub, "link", "set", "lo", "up")
    _ip("-netns", made.hub, "link", "add", "bridge", "type", "bridge")
    for address in (f"{network}.1", made.redis_address):
        _ip("-netns", made.hub, "address", "add", f"{address}/24", "dev", "bridge")
    _ip("-netns", made.hub, "link", "set", "bridge", "up")
    for name, host in made.hosts.items():
        _ip("netns", "add", host)
        _ip("-netns", host, "link", "set", "lo", "up")
        _ip("-netns", made.hub, "link", "add", name, "type", "veth", "peer", "name", "cable", "netns", host)
        _ip("-netns", made.hub, "link", "set", name, "master", "bridge", "up")
        _ip("-netns", host, "address", "add", f"{made.addresses[name]}/24", "dev", "cable")
        _ip("-netns", host, "link", "set", "cable", "up")


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True, timeout=10)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@asynccontextmanager
async def haproxy(made: Campus) -> AsyncIterator[int]:
    """HAProxy as docs/cluster.md has it, but on a free port of the hub and with these nodes; yields the port."""
    program, port = require_program("haproxy", "/usr/sbin/haproxy"), free_port()
    async with _proxy("haproxy", port, made, [program, "-db", "-f"]):
        yield port


@asynccontextmanager
async def nginx(made: Campus) -> AsyncIterator[int]:
    """The same with nginx."""
    program, port = require_program("nginx", "/usr/sbin/nginx"), free_port()
    async with _proxy("nginx", port, made, [program, "-e", "stderr", "-g", "daemon off;", "-c"]):
        yield port


@asynccontextmanager
async def _proxy(kind: str, port: int, made: Campus, command: list[str | Path]) -> AsyncIterator[ChildProcess]:
    text = documented(kind)
    for index, name in enumerate(NAMES):
        address = f"{made.addresses[name]}:{made.nodes[name].port}"
        text = text.replace(f"10.0.0.{11 + index}:8080", address)
    text = text.replace(f":{_DOCUMENTED_PORT}", f"127.0.0.1:{port}").replace(
        f"listen {_DOCUMENTED_PORT}", f"listen {port}"
    )
    with tempfile.TemporaryDirectory(prefix=f"{kind}-") as folder:
        path = _written(text if kind == "haproxy" else _whole_nginx(text, folder), Path(folder))
        async with child_process([*command, path]) as process:
            await until_it_listens(process, port)
            yield process


def _whole_nginx(text: str, folder: str) -> str:
    return f"pid {folder}/pid; events {{}} http {{ access_log off; {nginx_folders(Path(folder))}\n{text}\n}}\n"


def _written(text: str, folder: Path) -> Path:
    path = folder / "configuration"
    path.write_text(text)
    folder.chmod(0o755)  # nginx' workers are another user's.
    return path


def documented(kind: str) -> str:
    """The configuration of that proxy in docs/cluster.md."""
    found = re.search(rf"```{kind}\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]
