"""Other WebRTC stacks as clients of the whole daemon: docs/clients.md tells what each of them can do."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from tests.support.audio import SAMPLE_RATE_HZ, Samples, decode_opus, encode_opus
from tests.support.foreign import ForeignClient, foreign_client, node_client, numbers, payload, pion_client
from tests.support.namespaces import OtherMachine, other_machine
from tests.support.rtc_client import VoiceReceiver, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import until

# The first build of pion takes 15 s of two processors.
pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TONE_HZ = 997
SETUPS = ("actpass", "active")
"""Of a client's offer: the server takes the client's role in DTLS, or the server's."""


@dataclass
class Network:
    daemon: RunningServer
    machine: OtherMachine
    names: Iterator[str] = field(default_factory=lambda: (f"voice {number}" for number in itertools.count(1)))
    """One for each test: a stream waits for a while for a sender that was killed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncIterator[Network]:
    """A daemon, and a machine beside it for its clients."""
    async with other_machine() as machine, running_server(host=machine.here) as daemon:
        yield Network(daemon, machine)
        assert not any("Traceback" in line for line in daemon.log)


def werift() -> list[str | Path]:
    return node_client("werift", "werift")


def wrtc() -> list[str | Path]:
    return node_client("wrtc", "@roamhq/wrtc")


def pion_of(key: str) -> Callable[[], list[str | Path]]:
    return lambda: [pion_client(), key]


GAP_PACKETS = 50
"""A second."""
Command = Callable[[], Sequence[str | Path]]
OF_PACKETS = {"werift": werift, "pion, ECDSA": pion_of("ecdsa"), "pion, RSA": pion_of("rsa")}
"""Those that send given payloads."""
of_packets = pytest.mark.parametrize("client", OF_PACKETS.values(), ids=OF_PACKETS)
either_role = pytest.mark.parametrize("setup", SETUPS)


@asynccontextmanager
async def sending(network: Network, client: Command, setup: str) -> AsyncIterator[tuple[ForeignClient, VoiceReceiver]]:
    """The client as sender of a stream, and one who receives it."""
    url, here, name, command = network.daemon.ws_url, network.machine.here, next(network.names), client()
    async with (
        signalling(url) as watcher,
        foreign_client(command, network.machine, url, "send", name, setup) as foreign,
    ):
        await watcher.expect("stream_available", stream_id=name)
        async with voice_receiver(url, name, address=here) as receiver:
            yield foreign, receiver
        assert [message["type"] for message in watcher.history if message["type"] == "stream_paused"] == []
        assert foreign.complaints() == []


@of_packets
@either_role
async def test_what_it_sends_is_received_to_the_byte(network: Network, client: Command, setup: str) -> None:
    async with sending(network, client, setup) as (_, receiver):
        await receiver.packets.wait_for(50)
        first, *_ = heard = numbers(receiver.packets.payloads())
        assert heard == list(range(first, first + len(heard)))


@of_packets
async def test_what_it_receives_is_what_was_sent(network: Network, client: Command) -> None:
    url, here, name, command = network.daemon.ws_url, network.machine.here, next(network.names), client()
    async with voice_sender(url, address=here, name=name) as sender:
        await sender.send([payload(0)])
        async with foreign_client(command, network.machine, url, "receive", name, "-") as foreign:
            await foreign.process.wait_for_log('"connected"')
            talking = asyncio.create_task(sender.send(map(payload, range(1, 1000))))
            await until(lambda: len(foreign.payloads()) >= 50, "its packets")
            talking.cancel()
            first, *_ = heard = numbers(foreign.payloads())
            assert heard == list(range(first, first + len(heard)))
            assert foreign.complaints() == []


FURTHER_OFFERS = (signal.SIGHUP, signal.SIGUSR2)
"""A client asked by these renegotiates, and restarts ICE."""


async def offer_twice(foreign: ForeignClient, receiver: VoiceReceiver, asks: signal.Signals) -> list[int]:
    """Lets the client offer twice more while it talks; the numbers of the packets of that time and of a second more."""
    for number in (2, 3):
        await receiver.packets.wait_for(20 * number)
        foreign.process.send_signal(asks)
        await until(lambda number=number: foreign.answers() == number, "the answer")  # type: ignore[misc]
    await receiver.packets.wait_for(len(receiver.packets) + 50)
    assert not {"disconnected", "failed", "closed"} & set(foreign.states())
    return numbers(receiver.packets.payloads())


@of_packets
async def test_its_renegotiation_loses_no_packet(network: Network, client: Command) -> None:
    async with sending(network, client, "actpass") as (foreign, receiver):
        heard = await offer_twice(foreign, receiver, signal.SIGHUP)
        assert heard == list(range(heard[0], heard[0] + len(heard)))


@pytest.mark.parametrize("key", ["ecdsa", "rsa"])
async def test_pion_is_heard_soon_after_its_ice_restart(network: Network, key: str) -> None:
    """What it sends before it has the new pair it drops itself."""
    async with sending(network, pion_of(key), "actpass") as (foreign, receiver):
        heard = await offer_twice(foreign, receiver, signal.SIGUSR2)
        assert max(after - before for before, after in itertools.pairwise(heard)) < GAP_PACKETS
        assert min(after - before for before, after in itertools.pairwise(heard)) == 1


@pytest.mark.parametrize("asks", FURTHER_OFFERS)
async def test_wrtc_is_heard_after_a_further_offer(network: Network, asks: signal.Signals) -> None:
    async with sending(network, wrtc, "actpass") as (foreign, receiver):
        await receiver.packets.wait_for(20)
        foreign.process.send_signal(asks)
        await until(lambda: foreign.answers() == 2, "the answer")
        await receiver.packets.wait_for(len(receiver.packets) + 50)
        assert_tone(decode_opus(receiver.packets.payloads()))
        steps = {(after.sequence - before.sequence) & 0xFFFF for before, after in itertools.pairwise(receiver.packets)}
        assert steps == {1}
        assert not {"disconnected", "failed", "closed"} & set(foreign.states())


def tone() -> list[bytes]:
    seconds = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return encode_opus((0.5 * np.sin(2 * np.pi * TONE_HZ * seconds)).astype(np.float32))


def assert_tone(samples: Samples) -> None:
    """The last half second is the tone, as loud as it was sent."""
    half = samples[-SAMPLE_RATE_HZ // 2 :]
    assert abs(2 * int(np.argmax(np.abs(np.fft.rfft(half)))) - TONE_HZ) < 5
    assert 0.4 < float(np.max(np.abs(half))) < 0.6


@either_role
async def test_what_wrtc_says_is_heard(network: Network, setup: str) -> None:
    async with sending(network, wrtc, setup) as (_, receiver):
        await receiver.packets.wait_for(60)
        assert_tone(decode_opus(receiver.packets.payloads()))


async def test_wrtc_hears_what_is_said(network: Network) -> None:
    url, here, name = network.daemon.ws_url, network.machine.here, next(network.names)
    said = tone()
    async with voice_sender(url, address=here, name=name) as sender:
        await sender.send(said[:1])
        async with foreign_client(wrtc(), network.machine, url, "receive", name, "-") as foreign:
            await foreign.process.wait_for_log('"connected"')
            await sender.send(said[1:])
            assert_tone(foreign.samples())
            assert foreign.complaints() == []
