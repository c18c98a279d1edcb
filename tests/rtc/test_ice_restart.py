"""ICE restarts, between two servers of ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import pytest

from tests.support.stage import PACKET_S, Stage, on_stage, until
from voice_streaming.media.opus import OpusPacket
from voice_streaming.rtc import ReceiverPeer, SenderPeer, sdp
from voice_streaming.rtc.ice_port import PeerPort
from voice_streaming.rtc.negotiated_peer import NegotiatedPeer
from voice_streaming.settings.model import WebrtcSettings
from voice_streaming.streams.track import PacketSink


@dataclass
class Two:
    """Two servers of ours: what is published at the first is sent to the second."""

    first: Stage
    second: Stage
    sending: ReceiverPeer
    receiving: SenderPeer
    received: list[bytes]


class Recorder(PacketSink):
    def __init__(self, received: list[bytes]) -> None:
        self._received = received

    def on_packet(self, packet: OpusPacket) -> None:
        self._received.append(packet.payload)

    def on_end(self) -> None: ...


@asynccontextmanager
async def two_servers(*, first_offers: bool = True) -> AsyncIterator[Two]:
    async with on_stage() as first, on_stage() as second:
        sending, receiving = first.peers.receiver(first.track), second.peers.sender(second.track)
        first._open.append(sending)
        second._open.append(receiving)
        connected = asyncio.Event()
        receiving.on_connected, receiving.on_gone, sending.on_gone = (
            connected.set,
            second.gone.append,
            first.gone.append,
        )
        one, other = (sending, receiving) if first_offers else (receiving, sending)
        await one.accept(await other.answer(await one.offer()))
        await asyncio.wait_for(connected.wait(), 10)
        await until(lambda: sending.destination is not None, "the destination")
        received: list[bytes] = []
        second.relay.attach(second.track, Recorder(received))
        yield Two(first, second, sending, receiving, received)


@asynccontextmanager
async def publishing(two: Two) -> AsyncIterator[list[bytes]]:
    """The first server's stream speaks while the block runs; what was said."""
    said: list[bytes] = []

    async def speak() -> None:
        while True:
            said.append(len(said).to_bytes(4, "big"))
            two.first.publish(said[-1])
            await asyncio.sleep(PACKET_S)

    speaking = asyncio.create_task(speak())
    try:
        await until(lambda: len(two.received) > 5, "the first packets")
        yield said
        count = len(two.received)
        await until(lambda: len(two.received) > count + 20, "packets after that")
    finally:
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking


async def restart(one: NegotiatedPeer, other: NegotiatedPeer) -> None:
    before = one._ice, other._ice
    offer = await one.offer()
    assert other.continues(offer)
    await one.accept(await other.answer(offer))
    await until(lambda: one._ice is not before[0] and other._ice is not before[1], "both restarted")


@pytest.mark.parametrize("first_offers", [True, False])
@pytest.mark.parametrize("first_restarts", [True, False])
async def test_a_restart_loses_no_packet(first_offers: bool, first_restarts: bool) -> None:
    async with two_servers(first_offers=first_offers) as two:
        associations = two.sending._dtls, two.receiving._dtls
        async with publishing(two) as said:
            for _ in range(3):
                ours = two.sending._ice.ours, two.receiving._ice.ours
                pair = (two.sending, two.receiving) if first_restarts else (two.receiving, two.sending)
                await restart(*pair)
                assert two.sending._ice.ours != ours[0]
                assert two.receiving._ice.ours != ours[1]
        await until(lambda: len(two.received) == len(said), "every packet")
        assert two.received == said
        assert (two.sending._dtls, two.receiving._dtls) == associations
        assert (two.first.gone, two.second.gone) == ([], [])
        for stage in (two.first, two.second):
            await until(lambda stage=stage: len(stage.shared._users) == 1, "the former session's share is given up")  # type: ignore[misc]


async def test_a_restart_on_another_address_brings_media_back_within_a_second() -> None:
    async with two_servers() as two:
        async with publishing(two):
            loop = asyncio.get_running_loop()
            sockets = two.first.peers.endpoint.sockets
            old = two.first.shared
            sockets.settings = WebrtcSettings(host_addresses=("127.0.0.2",))
            # The old address is gone: nothing comes or goes there any more.
            loop.remove_reader(old.socket.fileno())
            old.send = lambda datagram, address: False  # type: ignore[method-assign]
            begun_s, count = loop.time(), len(two.received)
            await restart(two.sending, two.receiving)
            await until(lambda: len(two.received) > count + 10, "packets from the new address")
            assert loop.time() - begun_s < 1
            route = two.receiving._route()
            assert route is not None
            assert route[1][0] == "127.0.0.2"
        loop.add_reader(old.socket.fileno(), old._read)


async def test_a_restart_without_an_offer() -> None:
    async with two_servers() as two, publishing(two):
        before = two.sending._ice, two.receiving._ice
        session = await two.sending._begin_restart()
        ours = session.ours
        candidate = session.connection.local_candidates[0].to_sdp()
        ufrag, password, candidates = await two.receiving.restart_ice(ours.ufrag, ours.password, [candidate, "rubbish"])
        assert len(candidates) == 1
        await two.sending._finish_restart(
            session, sdp.Credentials(ufrag, password), sdp.read_candidates(candidates, ["127.0.0.1"])
        )
        await until(lambda: two.sending._ice is session and two.receiving._ice is not before[1], "both restarted")
        assert two.receiving._ice.ours == sdp.Credentials(ufrag, password)


async def test_a_restart_that_is_overtaken_by_another_leaves_nothing_behind() -> None:
    async with two_servers() as two, publishing(two):
        lost = await two.sending.offer()
        await two.receiving.answer(lost)
        await restart(two.sending, two.receiving)
        users = two.first.shared._users, two.second.shared._users
        await until(lambda: [len(some) for some in users] == [1, 1], "one session each")


async def test_a_peer_that_closes_within_a_restart_leaves_nothing_behind() -> None:
    async with two_servers() as two:
        await two.receiving.answer(await two.sending.offer())
        await asyncio.gather(two.sending.close(), two.receiving.close())
        assert (two.first.shared._users, two.second.shared._users) == ({}, {})
        assert (two.first.shared._addresses, two.second.shared._addresses) == ({}, {})


async def test_a_restart_before_the_first_connection() -> None:
    async with on_stage() as first, on_stage() as second:
        sending, receiving = first.peers.receiver(first.track), second.peers.sender(second.track)
        first._open.append(sending)
        second._open.append(receiving)
        offer = await sending.offer()
        unreachable = re.sub(r"a=candidate.*\r\n", "", offer)
        answer = await receiving.answer(unreachable)
        await sending.accept(re.sub(r"a=candidate.*\r\n", "", answer))
        await sending.accept(await receiving.answer(await sending.offer()))
        await until(lambda: sending.destination is not None, "the destination")


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_stray_client_hello_does_not_end_an_association(restarted: bool) -> None:
    """Anyone in the network can write the client's address on one."""
    async with two_servers() as two, publishing(two):
        if restarted:
            await restart(two.sending, two.receiving)
        port = two.receiving._ice.pair
        assert port is not None
        association = two.receiving._dtls
        hello = b"\x16\xfe\xfd\0\0" + bytes(6) + (60).to_bytes(2, "big") + b"\x01" + bytes(59)
        for _ in range(3):
            two.receiving.on_dtls(hello, cast(PeerPort, port.protocol))
        assert (two.receiving._second_path is not None) == restarted
        await asyncio.sleep(0.1)
        assert two.receiving._dtls is association
        assert association.state == "connected"
