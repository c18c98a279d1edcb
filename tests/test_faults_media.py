"""Media that comes damaged, late, twice, or not at all, and what its receivers get."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.faults import SenderWire, sequence_steps, timestamp_steps
from tests.support.rtc_client import SAMPLES_PER_PACKET, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PACKETS = 300


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon() -> AsyncIterator[RunningServer]:
    async with running_server() as server:
        yield server
        assert not any("Traceback" in line for line in server.log)


def payloads(count: int) -> list[bytes]:
    return [os.urandom(60) for _ in range(count)]


async def go_live(sender: VoiceSender) -> str:
    await sender.send(payloads(1))
    return str((await sender.signalling.expect("stream_available"))["stream_id"])


async def get_json(server: RunningServer, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(server.url(path), headers={"Accept": "*/*"}) as response:
        return await response.json()


Order = list[int]


def losing(share: float) -> Callable[[Order, Random], Order]:
    return lambda order, chance: [index for index in order if chance.random() >= share]


def losing_bursts(order: Order, chance: Random) -> Order:
    """Half a second is missing every two seconds."""
    return [index for index in order if index % 100 < 75]


def swapping_neighbours(order: Order, chance: Random) -> Order:
    return [index ^ 1 for index in order]


def duplicating(order: Order, chance: Random) -> Order:
    """Every packet a second time, at once or some packets later."""
    return sorted([*order, *order], key=lambda index: index + chance.choice((0, 0, 3.5)))


def delaying(order: Order, chance: Random) -> Order:
    """A tenth of them comes up to twenty places late."""
    late = {index: chance.randrange(1, 20) + 0.5 for index in order if chance.random() < 0.1}
    return sorted(order, key=lambda index: index + late.get(index, 0))


def everything(order: Order, chance: Random) -> Order:
    for fault in (losing(0.1), losing_bursts, duplicating, delaying):
        order = fault(order, chance)
    return order


FAULTS = {
    "no fault": lambda order, chance: order,
    "1 % lost": losing(0.01),
    "5 % lost": losing(0.05),
    "20 % lost": losing(0.2),
    "bursts lost": losing_bursts,
    "neighbours swapped": swapping_neighbours,
    "everything twice": duplicating,
    "some late": delaying,
    "all of it": everything,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_arrives_goes_on_once_in_its_place_and_without_waiting(daemon: RunningServer, fault: str) -> None:
    async with voice_sender(daemon.ws_url) as sender, voice_receiver(daemon.ws_url, await go_live(sender)) as receiver:
        wire = SenderWire(sender)
        sent = payloads(PACKETS)
        datagrams = await wire.hold(sent)
        arrived: list[int] = []
        for index in FAULTS[fault](list(range(PACKETS)), Random(fault)):
            await wire.pass_on(datagrams[index])
            if index not in arrived:
                arrived.append(index)
                # Before the next one is sent: nothing waits for what is missing.
                await receiver.packets.wait_for(len(arrived))
        assert receiver.packets.payloads() == [sent[index] for index in arrived]
        places = [index - arrived[0] for index in arrived]
        assert sequence_steps([packet.sequence for packet in receiver.packets]) == places
        timestamps = timestamp_steps([packet.timestamp for packet in receiver.packets])
        assert timestamps == [place * SAMPLES_PER_PACKET for place in places]


def one_byte_extension(*elements: tuple[int, bytes]) -> bytes:
    """RFC 8285 section 4.2."""
    data = b"".join(bytes([number << 4 | len(value) - 1]) + value for number, value in elements)
    data += bytes(-len(data) % 4)
    return struct.pack("!HH", 0xBEDE, len(data) // 4) + data


def two_byte_extension(*elements: tuple[int, bytes]) -> bytes:
    """RFC 8285 section 4.3."""
    data = b"".join(bytes([number, len(value)]) + value for number, value in elements)
    data += bytes(-len(data) % 4)
    return struct.pack("!HH", 0x1000, len(data) // 4) + data


VOICE = b"a voice in an Opus packet"
# First byte of the header, what follows the header, and what a receiver gets.
SOUND: dict[str, tuple[int, bytes]] = {
    "plain": (0x80, VOICE),
    "extension": (0x90, one_byte_extension((1, b"\x30"), (3, b"mid")) + VOICE),
    "extension with two-byte elements": (0x90, two_byte_extension((1, b""), (200, bytes(100))) + VOICE),
    "empty extension": (0x90, struct.pack("!HH", 0xBEDE, 0) + VOICE),
    "extension of an unknown kind": (0x90, struct.pack("!HH", 0x1234, 2) + bytes(8) + VOICE),
    "one-byte elements that say too much": (0x90, struct.pack("!HH", 0xBEDE, 1) + b"\x1f\x00\x00\x00" + VOICE),
    "fifteen CSRCs": (0x8F, bytes(60) + VOICE),
    "CSRC and extension": (0x91, bytes(4) + one_byte_extension((1, b"\x30")) + VOICE),
    "padding": (0xA0, VOICE + b"\0\0\0\x04"),
    "padding of 255 bytes": (0xA0, VOICE + bytes(254) + b"\xff"),
}


async def test_whatever_stands_around_the_payload_only_the_payload_goes_on(daemon: RunningServer) -> None:
    async with voice_sender(daemon.ws_url) as sender, voice_receiver(daemon.ws_url, await go_live(sender)) as receiver:
        wire = SenderWire(sender)
        await wire.pass_on((await wire.hold(payloads(1)))[0])
        await receiver.packets.wait_for(1)
        refused = (await get_json(daemon, "/metrics"))["refused_media"]
        for first_byte, body in SOUND.values():
            await wire.pass_on(wire.forge(body, first_byte=first_byte))
        await receiver.packets.wait_for(1 + len(SOUND))
        assert receiver.packets.payloads()[1:] == [VOICE] * len(SOUND)
        assert sequence_steps([packet.sequence for packet in receiver.packets]) == list(range(1 + len(SOUND)))
        assert (await get_json(daemon, "/metrics"))["refused_media"] == refused


def poisoned(wire: SenderWire, sent: bytes) -> dict[str, bytes]:
    """Datagrams of which none may have an effect; `sent` is one that has arrived already."""
    return {
        "empty payload": wire.forge(b""),
        "nothing but padding": wire.forge(b"\0\0\0\x04", first_byte=0xA0),
        "more padding than packet": wire.forge(VOICE + b"\xc8", first_byte=0xA0),
        "padding of no length": wire.forge(VOICE + b"\0", first_byte=0xA0),
        "payload type of PCMU": wire.forge(VOICE, payload_type=0),
        "payload type that was not negotiated": wire.forge(VOICE, payload_type=127),
        "no SRTP": wire.forge(VOICE, protect=False),
        "replay": sent,
        "truncated": wire.forge(VOICE)[:-3],
        "truncated in the header": wire.forge(VOICE)[:7],
        "a bit flipped": flipped(wire.forge(VOICE)),
        "CSRCs beyond the end": wire.forge(bytes(8), first_byte=0x8F, protect=False),
        "extension beyond the end": wire.forge(struct.pack("!HH", 0xBEDE, 999), first_byte=0x90, protect=False),
        "garbage": b"\x80" + os.urandom(400),
        "garbage longer than any packet": b"\x80\x6f" + os.urandom(1900),
        "garbage as RTCP": b"\x80\xc8" + os.urandom(50),
        "RTCP of two bytes": b"\x80\xc8",
    }


def flipped(datagram: bytes) -> bytes:
    return datagram[:20] + bytes([datagram[20] ^ 1]) + datagram[21:]


async def test_poison_is_dropped_and_counted_and_nothing_else_happens(daemon: RunningServer) -> None:
    async with voice_sender(daemon.ws_url) as sender, voice_receiver(daemon.ws_url, await go_live(sender)) as receiver:
        wire = SenderWire(sender)
        (sent,) = await wire.hold(payloads(1))
        await wire.pass_on(sent)
        refused = (await get_json(daemon, "/metrics"))["refused_media"]
        effects: dict[str, int] = {}
        for number, (name, datagram) in enumerate(poisoned(wire, sent).items(), start=1):
            await wire.pass_on(datagram)
            # Once this has arrived, the one before it has been dealt with.
            await wire.pass_on(wire.forge(VOICE))
            await receiver.packets.wait_for(1 + number)
            effects[name] = (await get_json(daemon, "/metrics"))["refused_media"] - refused - sum(effects.values())
        assert effects == dict.fromkeys(effects, 1)
        assert set(receiver.packets.payloads()[1:]) == {VOICE}
        assert (await get_json(daemon, "/health"))["status"] == "ok"
        assert all(message["type"] != "error" for message in receiver.signalling.history + sender.signalling.history)
