"""Batches of datagrams, on real sockets of 127.0.0.1 and ::1."""

from __future__ import annotations

import ctypes
import random
import socket
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.rtc.sockets import Client
from voice_streaming.rtc import batch as batch_module
from voice_streaming.rtc.batch import Batch
from voice_streaming.rtc.shared_socket import Address, SharedSocket

UNREACHABLE: Address = ("127.0.0.1", 0)
"""No datagram can be sent to port 0: EINVAL from sendto and sendmmsg alike."""


@pytest.fixture(params=["sendmmsg", "sendto"])
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of sending a batch: Linux's system call, and one call for each datagram, as on macOS."""
    if request.param == "sendto":
        monkeypatch.setattr(batch_module, "_sendmmsg", None)
    elif batch_module._sendmmsg is None:
        pytest.skip("this system has no sendmmsg")
    return str(request.param)


def fill(batch: Batch, text: Callable[[int], bytes]) -> None:
    for index in range(batch.size):
        datagram = text(index)
        batch.slots[index, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        batch.lengths[index] = len(datagram)


async def test_each_row_goes_to_its_own_address(shared: SharedSocket, client: Client, way_out: str) -> None:
    batch = Batch(shared)
    for _ in range(5):
        batch.add(client.address)
    fill(batch, lambda index: b"row %d" % index)
    assert batch.send() == []
    assert client.received() == [b"row %d" % index for index in range(5)]


async def test_rows_come_and_go_and_each_datagram_reaches_the_one_it_is_for(
    way_out: str, new_client: Callable[[], Client]
) -> None:
    shared = SharedSocket("127.0.0.1")
    chance = random.Random(11)
    batch, there = Batch(shared), list[Client]()
    clients = [new_client() for _ in range(70)]
    for _ in range(200):
        if there and (chance.random() < 0.4 or len(there) == len(clients)):
            index = chance.randrange(len(there))
            batch.remove(index)
            last = there.pop()
            if index < len(there):
                there[index] = last
        else:
            free = chance.choice([one for one in clients if one not in there])
            assert batch.add(free.address) == len(there)
            there.append(free)
        assert batch.size == len(there)
        fill(batch, lambda index: b"to %d" % there[index].address[1])
        assert batch.send() == []
        for one in clients:
            assert one.received() == ([b"to %d" % one.address[1]] if one in there else [])
    shared.close()


async def test_a_batch_grows_past_what_one_system_call_takes(way_out: str, new_client: Callable[[], Client]) -> None:
    shared, clients = SharedSocket("127.0.0.1"), [new_client() for _ in range(10)]
    batch = Batch(shared)
    count = batch_module.MAX_MESSAGES_PER_CALL + 100
    for index in range(count):
        batch.add(clients[index % 10].address)
    fill(batch, lambda index: b"%d" % index)
    assert batch.send() == []
    for number, client in enumerate(clients):
        assert client.received() == [b"%d" % index for index in range(number, count, 10)]
    shared.close()


async def test_unreachable_addresses_are_named_and_their_neighbours_served(
    way_out: str, new_client: Callable[[], Client]
) -> None:
    shared, clients = SharedSocket("127.0.0.1"), [new_client() for _ in range(4)]
    batch = Batch(shared)
    reachable = iter(clients)
    for index in range(9):
        batch.add(UNREACHABLE if index in (0, 3, 4, 7, 8) else next(reachable).address)
    fill(batch, lambda index: b"row %d" % index)
    assert batch.send() == [0, 3, 4, 7, 8]
    assert [one.received() for one in clients] == [[b"row 1"], [b"row 2"], [b"row 5"], [b"row 6"]]
    assert not batch.send_row(3)
    assert batch.send_row(1)
    assert clients[0].received() == [b"row 1"]
    shared.close()


async def test_a_socket_that_takes_only_some_rows_costs_only_those_it_refuses(
    monkeypatch: pytest.MonkeyPatch, new_client: Callable[[], Client]
) -> None:
    """A full socket: loopback's never fills, so a stand-in for sendmmsg takes three rows at a time and refuses some."""
    if batch_module._sendmmsg is None:
        pytest.skip("this system has no sendmmsg")
    real, calls = batch_module._sendmmsg, [0]

    def sendmmsg(descriptor: int, headers: int, count: int, flags: int) -> Any:
        calls[0] += 1
        return -1 if calls[0] in (2, 3) else real(descriptor, headers, min(count, 3), flags)

    monkeypatch.setattr(batch_module, "_sendmmsg", sendmmsg)
    shared, client = SharedSocket("127.0.0.1"), new_client()
    batch = Batch(shared)
    for _ in range(9):
        batch.add(client.address)
    fill(batch, lambda index: b"row %d" % index)
    assert batch.send() == [3, 4]
    assert client.received() == [b"row %d" % index for index in (0, 1, 2, 5, 6, 7, 8)]
    shared.close()


async def test_a_closed_socket_takes_nothing(way_out: str) -> None:
    shared = SharedSocket("127.0.0.1")
    batch = Batch(shared)
    for _ in range(3):
        batch.add(("127.0.0.1", 9))
    fill(batch, lambda index: b"row")
    shared.close()
    assert batch.send() == [0, 1, 2]


async def test_an_empty_batch_sends_nothing(way_out: str) -> None:
    shared = SharedSocket("127.0.0.1")
    batch = Batch(shared)
    assert batch.send() == []
    batch.remove(batch.add(("127.0.0.1", 9)))
    assert batch.send() == []
    shared.close()


async def test_rows_and_lengths_lie_where_their_addresses_say() -> None:
    shared = SharedSocket("127.0.0.1")
    batch = Batch(shared)
    for _ in range(20):
        batch.add(("127.0.0.1", 9))
    for index in (0, 7, 8, 19):
        ctypes.memmove(batch.slot_address(index), b"voice", 5)
        ctypes.c_uint64.from_address(batch.length_address(index)).value = 5
        assert batch.slots[index, :5].tobytes() == b"voice"
        assert batch.lengths[index] == 5
    shared.close()


def test_an_address_has_neither_a_flow_nor_a_scope() -> None:
    packed = batch_module._pack_address(("2001:db8::1", 0x1234))
    family = int(socket.AF_INET6).to_bytes(2, sys.byteorder)
    assert packed == family + b"\x12\x34" + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4)
    packed = batch_module._pack_address(("192.0.2.1", 0x1234))
    family = int(socket.AF_INET).to_bytes(2, sys.byteorder)
    assert packed == family + b"\x12\x34" + bytes([192, 0, 2, 1]) + bytes(8)
