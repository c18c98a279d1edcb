"""Listening sockets over real connections: limits, small reads, TLS, and what is left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import os
import socket
import ssl
from asyncio import selector_events, sslproto
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tests.support.ports import free_port
from tests.support.tls_client import handshake
from voice_streaming.access import tcp_ports
from voice_streaming.access.paced_protocol import READ_BYTES, PacedProtocol
from voice_streaming.access.tcp_ports import MAX_REFUSALS, SPARE_CONNECTIONS, TcpPorts, address_key
from voice_streaming.network.local_certificates import LocalCertificates
from voice_streaming.settings.model import AccessSettings, AudioSettings, LimitSettings, ServerSettings, Settings

MANY = Settings()
CONNECTION_PARTS = (PacedProtocol, sslproto.SSLProtocol, selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]
ONE = msgspec.structs.replace(MANY, limits=LimitSettings(tcp_connections_per_address=1))
FEW = msgspec.structs.replace(MANY, limits=LimitSettings(tcp_connections_per_address=3))


class Echo(asyncio.Protocol):
    """Sends back what it gets, and remembers in which pieces it came."""

    pieces: list[int]
    lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        type(self).pieces.append(len(data))
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        type(self).lost += 1


@pytest.fixture(autouse=True)
def _forget() -> None:
    Echo.pieces, Echo.lost = [], 0


@asynccontextmanager
async def open_ports(settings: Settings = MANY) -> AsyncIterator[tuple[TcpPorts, int]]:
    ports, port = TcpPorts(settings), free_port()
    await ports.open("127.0.0.1", port, Echo)
    try:
        yield ports, port
    finally:
        await ports.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; TimeoutError if it does not come to that."""
    async with asyncio.timeout(10):
        for wait_s in itertools.repeat(0.01):
            if condition():
                return
            await asyncio.sleep(wait_s)


async def test_what_comes_is_passed_on_in_small_pieces_and_goes_back_whole() -> None:
    async with open_ports() as (ports, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = bytes(range(256)) * 4096
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        assert max(Echo.pieces) <= READ_BYTES
        assert ports.connections == 1
        writer.close()
        await eventually(lambda: ports.connections == 0)
        assert Echo.lost == 1


async def refused(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_an_address_with_too_many_connections_is_refused_until_one_is_free() -> None:
    async with open_ports(FEW) as (ports, port):
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await eventually(lambda: ports.connections == 3)
        answer = await refused(port)
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\n")
        assert ports.refused_of_address == 1
        elsewhere = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        await eventually(lambda: ports.connections == 4)
        open_ones[0][1].close()
        await eventually(lambda: ports.connections == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"welcome")
        assert await reader.readexactly(7) == b"welcome"
        for _, other in [*open_ones, elsewhere, (reader, writer)]:
            other.close()
        await eventually(lambda: ports.connections == 0)


async def test_the_server_has_a_limit_of_its_own() -> None:
    settings = Settings(ServerSettings(max_connections=1), audio=AudioSettings(max_listeners=1))
    async with open_ports(settings) as (ports, port):
        assert ports.max_connections == 2 + SPARE_CONNECTIONS
        ports.max_connections = 1
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await eventually(lambda: ports.connections == 1)
        assert (await refused(port)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert ports.refused_in_all == 1
        writer.close()


async def test_the_proxy_stands_for_many() -> None:
    settings = msgspec.structs.replace(
        FEW, access=AccessSettings(ingress_address="127.0.0.1"), server=ServerSettings(ingress_port=8099)
    )
    async with open_ports(settings) as (ports, port):
        writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(10)]
        await eventually(lambda: ports.connections == 10)
        for writer in writers:
            writer.close()


async def test_refused_connections_are_forgotten() -> None:
    async with open_ports(ONE) as (ports, port):
        _, kept = await asyncio.open_connection("127.0.0.1", port)
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MAX_REFUSALS)]
        await eventually(lambda: ports.refused_of_address == len(crowd))
        assert ports.connections == 1
        for reader, writer in crowd:
            assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
            writer.close()
        kept.close()


async def test_a_refused_connection_is_closed_although_the_client_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_ports, "REFUSAL_LINGER_S", 0.05)
    async with open_ports(ONE) as (ports, port):
        before = len(os.listdir("/proc/self/fd"))
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        await eventually(lambda: ports.refused_of_address == 3)
        # One was let in.
        await eventually(lambda: len(os.listdir("/proc/self/fd")) - before - len(clients) == 1)
        for _, writer in clients:
            writer.close()


async def test_no_more_refused_connections_are_kept_than_may_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_ports, "REFUSAL_LINGER_S", 60.0)
    async with open_ports(ONE) as (ports, port):
        before = len(os.listdir("/proc/self/fd"))
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MAX_REFUSALS + 1)]
        await eventually(lambda: ports.refused_of_address == len(clients) - 1)
        # One was let in.
        await eventually(lambda: len(os.listdir("/proc/self/fd")) - before - len(clients) == 1 + MAX_REFUSALS)
        ports.stop_listening()
        # The listening socket was there before.
        assert len(os.listdir("/proc/self/fd")) - before - len(clients) == 0
        for _, writer in clients:
            writer.close()


async def test_connections_are_accepted_again_when_there_are_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, failures = socket.socket.accept, [errno.EMFILE]

    def accept_the_second_time(listening: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise OSError(failures.pop(), "no descriptors, on purpose")
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", accept_the_second_time)
    async with open_ports() as (_, port), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"voice")
        assert await reader.readexactly(5) == b"voice"
        writer.close()
    assert "No connection can be accepted: no descriptors, on purpose" in caplog.text


async def test_closing_lets_nobody_in_and_frees_the_port() -> None:
    async with open_ports() as (ports, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await eventually(lambda: ports.connections == 1)
        ports.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        again = TcpPorts(MANY)
        await again.open("127.0.0.1", port, Echo)
        await again.close()
        writer.close()


async def test_a_taken_port_is_an_error_that_says_so() -> None:
    async with open_ports() as (_, port):
        with pytest.raises(OSError, match="in use"):
            await TcpPorts(MANY).open("127.0.0.1", port, Echo)


async def test_ipv6_and_ipv4_share_a_port_number() -> None:
    ports, port = TcpPorts(MANY), free_port()
    await ports.open("127.0.0.1", port, Echo)
    await ports.open("::1", port, Echo)
    for host in ("127.0.0.1", "::1"):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
    await ports.close()


async def test_tls_and_those_who_do_not_speak_it(tmp_path: Path) -> None:
    certificates = LocalCertificates(tmp_path, lambda: ["localhost"])
    ports, port = TcpPorts(MANY), free_port()
    await ports.open("127.0.0.1", port, Echo, certificates.context())
    _, plain = await asyncio.open_connection("127.0.0.1", port)
    plain.write(b"GET / HTTP/1.1\r\n\r\n")
    await eventually(lambda: ports.connections == 1)
    await eventually(lambda: ports.connections == 0)
    authority = certificates.authority_pem()
    assert authority is not None
    await handshake(port, authority, "localhost")
    await ports.close()
    plain.close()


async def test_nothing_of_a_tls_connection_waits_for_the_collector(tmp_path: Path) -> None:
    certificates = LocalCertificates(tmp_path, lambda: ["localhost"])
    ports, port = TcpPorts(MANY), free_port()
    await ports.open("127.0.0.1", port, Echo, certificates.context())
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await asyncio.to_thread(_say_something, port, certificates.authority_pem() or b"")
        await eventually(lambda: Echo.lost == 3)
        await eventually(lambda: not [thing for thing in gc.get_objects() if isinstance(thing, CONNECTION_PARTS)])
    finally:
        gc.enable()
    await ports.close()


def _say_something(port: int, authority: bytes) -> None:
    """Without asyncio, whose parts on this side would count too."""
    context = ssl.create_default_context(cadata=authority.decode())
    plain = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        client.send(b"voice")
        assert client.recv(5) == b"voice"


async def test_aiohttp_serves_through_it() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    assert runner.server is not None
    ports, port = TcpPorts(MANY), free_port()
    await ports.open("127.0.0.1", port, runner.server)
    assert b"404: Not Found" in await asyncio.wait_for(_get(port), 10)
    await runner.cleanup()
    await ports.close()


async def _get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("::ffff:192.168.1.5", "192.168.1.5"),
        ("fd00:1:2:3::5", "fd00:1:2:3::/64"),
        ("fd00:1:2:3:ffff::5", "fd00:1:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, key: str) -> None:
    assert address_key(address) == key
