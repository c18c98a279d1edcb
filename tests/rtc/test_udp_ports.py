"""Forwarded UDP ports: `webrtc.udp_ports` and `webrtc.advertised_addresses`, for containers on a bridge."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.rtc_client import VoiceReceiver, VoiceSender
from tests.support.server import running_server
from tests.support.signalling import signalling
from voice_streaming.program.configuration import load
from voice_streaming.rtc.shared_socket import SharedSocket
from voice_streaming.settings.model import ConfigError, Settings, WebrtcSettings

ADVERTISED = "127.0.0.77"
"""Loopback, but not where the server's sockets are: whoever reaches it there came through the forwarding."""


class Forwarding(asyncio.DatagramProtocol):
    """What a container engine does with a published UDP port: a socket for each client, towards the container."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._ways: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self.outside: asyncio.DatagramTransport | None = None
        self.datagrams_in = 0

    def connection_made(self, transport: Any) -> None:
        self.outside = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.datagrams_in += 1
        if way := self._ways.get(addr):
            way.sendto(data)
            return
        task = asyncio.create_task(self._open(data, addr))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, data: bytes, client: tuple[str, int]) -> None:
        assert self.outside is not None
        way, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Back(self.outside, client), remote_addr=self._to
        )
        self._ways.setdefault(client, way)
        way.sendto(data)

    def close(self) -> None:
        for transport in (*self._ways.values(), self.outside):
            if transport is not None:
                transport.close()


class Back(asyncio.DatagramProtocol):
    def __init__(self, outside: Any, client: tuple[str, int]) -> None:
        self._outside = outside
        self._client = client

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._outside.sendto(data, self._client)


@asynccontextmanager
async def forwarding(port: int) -> AsyncIterator[Forwarding]:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Forwarding(("127.0.0.1", port)), local_addr=(ADVERTISED, port)
    )
    try:
        yield protocol
    finally:
        protocol.close()


def candidates(sdp: str) -> set[tuple[str, int]]:
    """Address and port of each candidate of a description."""
    return {(match[1], int(match[2])) for match in re.finditer(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", sdp)}


def without_candidates(sdp: str) -> str:
    """So that the server can only answer: it is not told where the client is."""
    return re.sub(r"a=candidate:.*\r\n", "", sdp)


class HiddenClient:
    """Hides the client's candidates from the server, in all that it sends."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.expect = client.expect

    async def send(self, message_type: str, **fields: Any) -> None:
        for key in ("offer", "answer"):
            if key in fields:
                fields[key] = {**fields[key], "sdp": without_candidates(fields[key]["sdp"])}
        await self._client.send(message_type, **fields)


async def test_voice_goes_both_ways_through_one_forwarded_port() -> None:
    port = free_port()
    config = {"webrtc": {"advertised_addresses": [ADVERTISED], "udp_ports": str(port)}}
    async with (
        running_server(config) as server,
        forwarding(port) as forwarded,
        signalling(server.ws_url) as sending,
        signalling(server.ws_url) as receiving,
    ):
        sender = VoiceSender(HiddenClient(sending))  # type: ignore[arg-type]
        receiver = VoiceReceiver(HiddenClient(receiving))  # type: ignore[arg-type]
        try:
            await sender.start(name="kitchen")
            assert candidates(sender.answer_sdp) == {(ADVERTISED, port)}
            talking = asyncio.create_task(sender.send([bytes([0xF8, 0xFF, n]) for n in range(200)]))
            await receiving.expect("stream_available")
            await receiver.start("kitchen")
            assert candidates(receiver.offer_sdp) == {(ADVERTISED, port)}
            await receiver.packets.wait_for(20)
            assert set(receiver.packets.payloads()) <= set(sender.sent)
            assert forwarded.datagrams_in >= len(receiver.packets)
            talking.cancel()
        finally:
            await sender.peer.close()
            await receiver.peer.close()


async def test_sockets_bind_within_the_range_and_share_one_port() -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        async with running_server({"webrtc": {"udp_ports": f"{port}-{port + 5}"}}) as server:
            found = set()
            for _ in range(2):
                async with signalling(server.ws_url) as client:
                    sender = VoiceSender(client)
                    await sender.start()
                    found |= candidates(sender.answer_sdp)
                    await sender.peer.close()
    assert len(found) == 1
    host, used = found.pop()
    assert host == "127.0.0.1"
    assert port < used <= port + 5


async def test_no_free_port_is_said_with_the_setting() -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            SharedSocket("127.0.0.1", range(port, port + 1))


@pytest.mark.parametrize(
    ("text", "ports"),
    [("", range(1)), ("40000", range(40000, 40001)), ("40000-40100", range(40000, 40101)), ("7-7", range(7, 8))],
)
def test_port_range(text: str, ports: range) -> None:
    assert WebrtcSettings(udp_ports=text).udp_port_range == ports


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("udp_ports", "40100-40000", "1 to 65535"),
        ("udp_ports", "0", "1 to 65535"),
        ("udp_ports", "60000-70000", "1 to 65535"),
        ("udp_ports", "many", "matching regex"),
        ("udp_ports", "1-2-3", "matching regex"),
        ("advertised_addresses", ["router"], "an IP address"),
        ("host_addresses", ["192.168.1.2/24"], "an IP address"),
    ],
)
def test_impossible_values_stop_the_start(tmp_path: Path, setting: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"webrtc.{setting}.*{allowed}"):
        read({"webrtc": {setting: value}}, tmp_path)


def test_ipv4_and_ipv6_addresses_are_taken(tmp_path: Path) -> None:
    addresses = ["192.168.1.2", "fd00::2"]
    assert read({"webrtc": {"advertised_addresses": addresses}}, tmp_path).webrtc.advertised_addresses == (
        "192.168.1.2",
        "fd00::2",
    )


def read(values: dict[str, Any], folder: Path) -> Settings:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return load(path, {}, {}, options_path=folder / "absent.json")
