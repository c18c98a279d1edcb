"""Small reads, and turns for those who send much: without sockets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from voice_streaming.access import paced_protocol
from voice_streaming.access.paced_protocol import READ_BYTES, UNPACED_BURST_BYTES, PacedProtocol, stop_reading
from voice_streaming.process.turns import Turns


class Transport(asyncio.Transport):
    """Says whether it reads."""

    def __init__(self, protocol: PacedProtocol) -> None:
        super().__init__()
        self.reads = True
        self._of = protocol

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_protocol(self) -> Any:
        return self._of


class Served(asyncio.Protocol):
    """The protocol behind: keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.losses = 0

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.losses += 1


class Connection:
    def __init__(self) -> None:
        self.served = Served()
        self.gone = 0
        self.protocol = PacedProtocol(lambda: self.served, Turns(), self._count_gone)
        self.transport = Transport(self.protocol)
        self.protocol.connection_made(self.transport)

    def _count_gone(self) -> None:
        self.gone += 1

    def receive(self, data: bytes) -> None:
        """As asyncio does with what has come."""
        while data:
            buffer = self.protocol.get_buffer(-1)
            piece, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(piece)] = piece
            self.protocol.buffer_updated(len(piece))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that it is now; only the test lets time pass."""
    now_s = [1000.0]
    monkeypatch.setattr(paced_protocol, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    return now_s


async def test_a_burst_is_passed_on_at_once_to_its_last_byte() -> None:
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES))
    assert len(connection.served.data) == UNPACED_BURST_BYTES
    assert connection.transport.reads


async def test_who_sends_more_is_not_read_until_its_turn_comes() -> None:
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES) + b"more")
    assert len(connection.served.data) == UNPACED_BURST_BYTES
    assert not connection.transport.reads
    await asyncio.sleep(0)
    assert connection.served.data[UNPACED_BURST_BYTES:] == b"more"
    assert connection.transport.reads


async def test_what_comes_while_it_waits_follows_in_order() -> None:
    """TLS has more at once than one piece."""
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES) + b"a")
    connection.receive(b"b")
    await asyncio.sleep(0)
    connection.receive(b"c")
    await asyncio.sleep(0)
    assert connection.served.data[UNPACED_BURST_BYTES:] == b"abc"


async def test_a_second_earns_what_a_second_allows(clock: list[float]) -> None:
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES))
    clock[0] += 0.5
    connection.receive(bytes(2048))
    assert len(connection.served.data) == UNPACED_BURST_BYTES + 2048
    connection.receive(b"more")
    assert not connection.transport.reads
    await asyncio.sleep(0)


async def test_pieces_are_two_kibibytes() -> None:
    """Some 0.2 ms of parsing where it is worst."""
    assert len(Connection().protocol.get_buffer(-1)) == READ_BYTES == 2048


async def test_one_that_is_to_be_cut_off_is_read_no_more() -> None:
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES) + b"more")
    stop_reading(connection.transport)
    await asyncio.sleep(0)
    assert not connection.transport.reads
    connection.receive(b"still more")
    assert len(connection.served.data) == UNPACED_BURST_BYTES


async def test_the_end_is_told_once() -> None:
    connection = Connection()
    connection.receive(bytes(UNPACED_BURST_BYTES) + b"more")
    connection.protocol.connection_lost(None)
    connection.protocol.closed()
    assert (connection.gone, connection.served.losses) == (1, 1)
    await asyncio.sleep(0)
    assert len(connection.served.data) == UNPACED_BURST_BYTES, "nothing comes after the end"
