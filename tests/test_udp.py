"""Shared sockets and batches, on real sockets of 127.0.0.1 and ::1."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from voice_streaming import udp
from voice_streaming.srtp import Incoming
from voice_streaming.udp import Address, Batch, SharedSocket

LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}
UNREACHABLE: Address = ("127.0.0.1", 0)
"""No datagram can be sent to port 0: EINVAL from sendto and sendmmsg alike."""


@pytest.fixture(params=LOOPBACK)
def host(request: pytest.FixtureRequest) -> str:
    return LOOPBACK[request.param]


@pytest.fixture
async def shared(host: str) -> AsyncIterator[SharedSocket]:
    one = SharedSocket(host)
    yield one
    one.close()


@pytest.fixture(params=["sendmmsg", "sendto"])
def way_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of sending a batch: Linux's system call, and one call for each datagram, as on macOS."""
    if request.param == "sendto":
        monkeypatch.setattr(udp, "_sendmmsg", None)
    elif udp._sendmmsg is None:
        pytest.skip("this system has no sendmmsg")
    return str(request.param)


class Client:
    """Somebody's socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()[:2]

    def send(self, datagram: bytes, to: SharedSocket) -> None:
        self.socket.sendto(datagram, to.address)

    def received(self) -> list[bytes]:
        """What has arrived; on loopback that is all that was sent."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096))
            except BlockingIOError:
                return datagrams

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def client(host: str) -> Iterator[Client]:
    one = Client(host)
    yield one
    one.close()


@pytest.fixture
def new_client() -> Iterator[Callable[[], Client]]:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    yield make
    for one in made:
        one.close()


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[bytes, Address]] = []

        self.media: list[bytes] = []

    def on_media(self, incoming: Incoming) -> None:
        self.media.append(bytes(incoming.datagram))

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        self.told.append((datagram, address))


def request(username: str) -> bytes:
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["PRIORITY"] = 1
    message.attributes["USERNAME"] = username
    message.add_message_integrity(b"password")
    return bytes(message)


def response(transaction: bytes) -> bytes:
    return bytes(stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=transaction))


async def settle() -> None:
    """Lets the loop read what lies in its sockets."""
    for _ in range(5):
        await asyncio.sleep(0.002)


# Telling datagrams apart


def test_first_bytes_are_told_apart_as_rfc_7983_says() -> None:
    rest = bytes(30)
    assert [first for first in range(256) if udp.is_stun(bytes([first]) + rest)] == list(range(4))
    assert [first for first in range(256) if udp.is_dtls(bytes([first]) + rest)] == list(range(20, 64))
    assert [first for first in range(256) if udp.is_media(bytes([first]) + rest)] == list(range(128, 192))


@given(st.binary(max_size=60))
def test_any_bytes_are_at_most_one_kind(datagram: bytes) -> None:
    kinds = [udp.is_stun(datagram), udp.is_dtls(datagram), udp.is_media(datagram)]
    assert sum(kinds) <= 1
    udp.is_stun_request(datagram)
    udp.stun_transaction(datagram)
    udp.stun_local_username(datagram)
    udp.stun_local_username(b"\0\1" + datagram)


def test_the_username_of_a_request_is_found_whatever_stands_before_it() -> None:
    datagram = request("abcd:efgh")
    assert udp.is_stun(datagram)
    assert udp.is_stun_request(datagram)
    assert udp.stun_local_username(datagram) == "abcd"
    assert udp.stun_transaction(datagram) == stun.parse_message(datagram).transaction_id
    assert not udp.is_stun_request(response(bytes(12)))
    assert udp.stun_local_username(response(bytes(12))) is None


# Shared sockets


async def test_a_request_goes_to_its_user(shared: SharedSocket, client: Client) -> None:
    ports = {name: Recorder() for name in ("abcd", "efgh")}
    for name, port in ports.items():
        shared.add_user(name, port)
    client.send(request("efgh:remote"), shared)
    client.send(request("nobody:remote"), shared)
    await settle()
    assert [len(port.told) for port in ports.values()] == [0, 1]
    assert ports["efgh"].told[0][1] == client.address
    assert shared.strays == 1


async def test_a_response_goes_to_its_transaction(shared: SharedSocket, client: Client) -> None:
    port = Recorder()
    shared.add_transaction(b"t" * 12, port)
    client.send(response(b"t" * 12), shared)
    client.send(response(b"u" * 12), shared)
    await settle()
    shared.remove_transaction(b"t" * 12)
    shared.remove_transaction(b"t" * 12)
    client.send(response(b"t" * 12), shared)
    await settle()
    assert port.told == [(response(b"t" * 12), client.address)]
    assert shared.strays == 2


async def test_the_rest_goes_by_the_senders_address(shared: SharedSocket, client: Client) -> None:
    port = Recorder()
    for datagram in (b"\x80media", b"\x16dtls", b"", b"\x00short", b"\xff"):
        client.send(datagram, shared)
    await settle()
    assert shared.strays == 5
    shared.add_address(client.address, port)
    client.send(b"\x80media", shared)
    client.send(b"\x16dtls", shared)
    await settle()
    assert port.media == [b"\x80media"]
    assert port.told == [(b"\x16dtls", client.address)]


async def test_a_port_that_is_removed_leaves_nothing_behind(shared: SharedSocket, client: Client) -> None:
    leaves, stays = Recorder(), Recorder()
    assert not shared.is_used
    for port, name in ((leaves, "leaves"), (stays, "stays")):
        shared.add_user(name, port)
        shared.add_transaction(name.encode().ljust(12), port)
        shared.add_address(("192.0.2.1", len(name)), port)
    shared.add_address(client.address, leaves)
    shared.remove("leaves", leaves)
    assert shared.is_used
    client.send(request("leaves:remote"), shared)
    client.send(response(b"leaves".ljust(12)), shared)
    client.send(b"\x80media", shared)
    client.send(request("stays:remote"), shared)
    client.send(response(b"stays".ljust(12)), shared)
    await settle()
    assert (leaves.told, leaves.media, len(stays.told), shared.strays) == ([], [], 2, 3)
    shared.remove("stays", leaves)
    assert shared.is_used, "the name is another's now"
    shared.remove("stays", stays)
    assert not shared.is_used


async def test_a_port_that_fails_is_logged_and_the_next_datagram_goes_on(
    shared: SharedSocket, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Recorder):
        def on_datagram(self, datagram: bytes, address: Address) -> None:
            raise ZeroDivisionError

    port = Recorder()
    shared.add_user("abcd", Fails())
    shared.add_user("efgh", port)
    client.send(request("abcd:remote"), shared)
    client.send(request("efgh:remote"), shared)
    await settle()
    assert len(port.told) == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize("turn_s", [0, 0.003])
async def test_a_flood_does_not_keep_others_from_their_turn(
    shared: SharedSocket, client: Client, turn_s: float
) -> None:
    """However long the others take: what waits must not become ever more."""
    turns = [0]
    port = Recorder()
    shared.add_address(client.address, port)
    for _ in range(3 * udp.READS_PER_WAKEUP):
        client.send(b"\x80media", shared)
    async with asyncio.timeout(5):
        while turns[-1] < 3 * udp.READS_PER_WAKEUP:
            await asyncio.sleep(0)
            time.sleep(turn_s)  # noqa: ASYNC251 - somebody else's work
            turns.append(len(port.media))
    read = [after - before for before, after in itertools.pairwise(turns) if after > before]
    assert max(read) <= udp.READS_PER_WAKEUP
    assert len(read) < 12, "what waits is read by ever more at once"


async def test_after_lone_datagrams_another_is_asked_for_every_other_time(shared: SharedSocket, client: Client) -> None:
    port = Recorder()
    shared.add_address(client.address, port)
    for _ in range(20):
        client.send(b"\x80media", shared)
    await settle()
    asked = 0

    class Counted:
        def recvfrom_into(self, memory: bytearray) -> tuple[int, Address]:
            nonlocal asked
            asked += 1
            return real.recvfrom_into(memory)

    # In the place of the socket, which allows no method of its own to be replaced.
    real = shared.socket
    shared.socket = cast(socket.socket, Counted())
    try:
        for _ in range(8):
            client.send(b"\x80media", shared)
            await settle()
    finally:
        shared.socket = real
    assert len(port.media) == 28
    assert asked <= 8 + 4 + 1, "the first may still expect a crowd"


async def test_send_says_whether_it_left(shared: SharedSocket, client: Client) -> None:
    assert shared.send(b"voice", client.address)
    assert client.received() == [b"voice"]
    assert not shared.send(b"voice", (client.address[0], 0))


async def test_an_address_that_is_not_ours_cannot_be_bound() -> None:
    descriptors = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match=r"."):
        SharedSocket("192.0.2.1")
    assert len(os.listdir("/dev/fd")) == descriptors


async def test_a_closed_socket_is_gone(host: str, client: Client) -> None:
    one = SharedSocket(host)
    one.close()
    assert one.socket.fileno() == -1
    assert not one.send(b"voice", client.address)


# Batches


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
    count = udp.MAX_MESSAGES_PER_CALL + 100
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
    if udp._sendmmsg is None:
        pytest.skip("this system has no sendmmsg")
    real, calls = udp._sendmmsg, [0]

    def sendmmsg(descriptor: int, headers: int, count: int, flags: int) -> Any:
        calls[0] += 1
        return -1 if calls[0] in (2, 3) else real(descriptor, headers, min(count, 3), flags)

    monkeypatch.setattr(udp, "_sendmmsg", sendmmsg)
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
