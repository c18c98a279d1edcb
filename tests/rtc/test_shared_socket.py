"""Shared sockets and batches, on real sockets of 127.0.0.1 and ::1."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from contextlib import closing
from typing import cast

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from tests.rtc.sockets import Client
from voice_streaming.rtc import shared_socket as udp
from voice_streaming.rtc.shared_socket import Address, SharedSocket, is_client_hello
from voice_streaming.rtc.srtp import Incoming

UNREACHABLE: Address = ("127.0.0.1", 0)
"""No datagram can be sent to port 0: EINVAL from sendto and sendmmsg alike."""


class Recorder:
    def __init__(self, owner: object = None) -> None:
        self.told: list[tuple[bytes, Address]] = []

        self.media: list[bytes] = []
        self.owner = self if owner is None else owner
        self.challenged: list[Address] = []

    def defend(self, address: Address) -> None:
        self.challenged.append(address)

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


def client_hello(number: int = 0) -> bytes:
    """Its header and a body that tells it from others."""
    return b"\x16\xfe\xfd\0\0" + bytes(8) + b"\x01" + bytes([number] * 20)


async def settle() -> None:
    """Lets the loop read what lies in its sockets."""
    for _ in range(5):
        await asyncio.sleep(0.002)


# Telling datagrams apart


def test_first_bytes_are_distinguished_as_rfc_7983_says() -> None:
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


def test_a_client_hello_is_told_by_epoch_and_type() -> None:
    hello = client_hello()
    assert is_client_hello(hello)
    assert not is_client_hello(hello[:13])
    assert not is_client_hello(b"\x17" + hello[1:])
    assert not is_client_hello(hello[:4] + b"\x01" + hello[5:])
    assert not is_client_hello(hello[:13] + b"\x02" + hello[14:])


async def test_a_client_hello_that_comes_before_the_nomination_is_not_lost(
    shared: SharedSocket, client: Client
) -> None:
    port, alert = Recorder(), b"\x15\xfe\xfd\0\0" + bytes(8) + b"\x02\x28"
    for datagram in (client_hello(1), alert, client_hello(2)):
        client.send(datagram, shared)
    await settle()
    assert shared.strays == 3
    shared.add_address(client.address, port)
    shared.add_address(client.address, port)
    assert port.told == [(client_hello(number), client.address) for number in (1, 2)]


async def test_an_old_client_hello_is_another_connections(
    shared: SharedSocket, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "EARLY_S", 0.0)
    port = Recorder()
    client.send(client_hello(), shared)
    await settle()
    shared.add_address(client.address, port)
    assert port.told == []


async def test_few_early_client_hellos_are_kept(
    shared: SharedSocket, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "MAX_EARLY_ADDRESSES", 1)
    for number in range(6):
        client.send(client_hello(number), shared)
    await settle()
    first, second = Recorder(), Recorder()
    shared.add_address(client.address, first)
    assert first.told == [(client_hello(number), client.address) for number in range(2, 6)]
    with closing(Client(shared.address[0])) as one, closing(Client(shared.address[0])) as other:
        one.send(client_hello(), shared)
        await settle()
        other.send(client_hello(), shared)
        await settle()
        shared.add_address(one.address, second)
        assert second.told == []
        shared.add_address(other.address, second)
        assert second.told == [(client_hello(), other.address)]


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

    # Instead of the socket, which allows no method of its own to be replaced.
    real = shared.socket
    shared.socket = cast(socket.socket, Counted())
    try:
        for _ in range(8):
            client.send(b"\x80media", shared)
            await settle()
    finally:
        shared.socket = real
    assert len(port.media) == 28
    assert asked <= 8 + 4 + 1, "the first wake-up may still try many reads"


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


# An address that two peers claim


async def test_a_live_claim_of_another_peer_stays(shared: SharedSocket, client: Client) -> None:
    holder, claimant = Recorder(), Recorder()
    shared.add_address(client.address, holder)
    shared.add_address(client.address, claimant)
    shared.add_address(client.address, claimant)
    client.send(b"\x80media", shared)
    await settle()
    assert holder.challenged == [client.address], "asked once"
    shared.settle(client.address, holder, answers=True)
    client.send(b"\x80more", shared)
    await settle()
    assert (holder.media, claimant.media) == ([b"\x80media", b"\x80more"], [])


async def test_a_claim_whose_holder_does_not_answer_is_the_claimants(shared: SharedSocket, client: Client) -> None:
    holder, claimant = Recorder(), Recorder()
    shared.add_address(client.address, holder)
    shared.add_address(client.address, claimant)
    shared.settle(client.address, holder, answers=False)
    client.send(b"\x80media", shared)
    await settle()
    assert (holder.media, claimant.media) == ([], [b"\x80media"])


async def test_a_claim_whose_holder_goes_is_the_claimants(shared: SharedSocket, client: Client) -> None:
    holder, claimant, gone = Recorder(), Recorder(), Recorder()
    shared.add_address(client.address, holder)
    shared.add_address(client.address, gone)
    shared.add_address(client.address, claimant)
    shared.remove("gone", gone)
    shared.remove("holder", holder)
    client.send(b"\x80media", shared)
    await settle()
    assert claimant.media == [b"\x80media"]
    shared.remove("claimant", claimant)
    assert (shared._addresses, shared._claimants) == ({}, {})


async def test_the_ports_of_one_peer_do_not_compete(shared: SharedSocket, client: Client) -> None:
    before, restarted = Recorder("peer"), Recorder("peer")
    shared.add_address(client.address, before)
    shared.add_address(client.address, restarted)
    shared.remove("before", before)
    client.send(b"\x80media", shared)
    await settle()
    assert (before.challenged, restarted.media) == ([], [b"\x80media"])
