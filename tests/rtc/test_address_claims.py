"""Whose media comes from an address: only ICE says so, and no other peer may take it away."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aioice import stun

from tests.rtc.sockets import Client as Socket
from tests.support.stage import on_stage, until
from voice_streaming.rtc.ice_port import PeerPort
from voice_streaming.rtc.peer import Peer
from voice_streaming.rtc.shared_socket import Address


def port_of(peer: Peer) -> PeerPort:
    pair = peer._ice.pair
    assert pair is not None
    return cast(PeerPort, pair.protocol)


def address_of(peer: Peer) -> Address:
    pair = peer._ice.pair
    assert pair is not None
    return pair.remote_addr


def check_for(peer: Peer, **attributes: Any) -> bytes:
    ice = peer._ice.connection
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes.update({"USERNAME": f"{ice.local_username}:{ice.remote_username}", "PRIORITY": 1})
    request.attributes.update({"ICE-CONTROLLING": 1, **attributes})
    request.add_message_integrity(ice.local_password.encode())
    return bytes(request)


async def test_a_check_claims_its_address_only_when_it_nominates() -> None:
    async with on_stage() as stage:
        sender, _ = await stage.sender()
        shared, other = stage.shared, Socket()
        try:
            other.send(check_for(sender), shared)
            await until(lambda: any(message[:2] == b"\x01\x01" for message in other.received()), "success")
            assert other.address not in shared._addresses
            other.send(check_for(sender, **{"USE-CANDIDATE": None}), shared)
            await until(lambda: shared._addresses.get(other.address) is port_of(sender), "the claim")
        finally:
            other.close()


async def test_a_peer_cannot_take_the_address_of_another_that_answers() -> None:
    async with on_stage() as stage:
        victim, talker = await stage.sender()
        thief, _ = await stage.receiver()
        shared, address = stage.shared, address_of(victim)
        port_of(thief).claim(address)
        assert address in shared._claimants
        await until(lambda: address not in shared._claimants, "the victim's answer", 3)
        assert shared._addresses[address] is port_of(victim)
        talker.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")


async def test_an_address_is_free_for_another_when_its_peer_does_not_answer() -> None:
    """A device that was switched off and on comes back with the same port before the old peer is given up."""
    async with on_stage() as stage:
        gone, talker = await stage.sender()
        new, _ = await stage.receiver()
        shared, address = stage.shared, address_of(gone)
        begun_s = asyncio.get_running_loop().time()
        talker.dtls.transport._connection._nominated[1].protocol.transport.close()
        port_of(new).claim(address)
        await until(lambda: shared._addresses[address] is port_of(new), "the address changes hands", 5)
        assert asyncio.get_running_loop().time() - begun_s < 2


async def test_a_defence_ends_with_its_peer() -> None:
    async with on_stage() as stage:
        victim, _ = await stage.sender()
        thief, _ = await stage.receiver()
        shared, address = stage.shared, address_of(victim)
        port_of(thief).claim(address)
        await victim.close()
        assert shared._addresses[address] is port_of(thief)
        await asyncio.sleep(0)
        assert shared._claimants == {}
