"""GStreamer's webrtcbin, with the RSA certificate that it makes, as sender and receiver, in either DTLS role.

It gathers on every address: it runs in a network namespace, where there is one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.audio import SAMPLE_RATE_HZ, Samples, decode_opus, encode_opus
from tests.support.availability import unavailable
from tests.support.namespaces import OtherMachine, other_machine
from tests.support.stage import on_stage, until
from voice_streaming.media.opus import OpusPacket
from voice_streaming.settings.model import WebrtcSettings

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).parent.parent / "support" / "gstreamer_client.py"
PYTHON = "/usr/bin/python3"
"""The system's: PyGObject is Debian's."""
NEEDED = """
import gi
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstWebRTC
Gst.init(None)
assert Gst.ElementFactory.find("nicesrc")
"""


TONE_HZ = 997
"""What the client sends, and what it is sent."""


class Recorder:
    """A track's payloads."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def on_packet(self, packet: OpusPacket) -> None:
        self.payloads.append(packet.payload)

    def on_end(self) -> None: ...


def frequency_hz(samples: Samples) -> float:
    """The strongest, of the last half second."""
    spectrum = np.abs(np.fft.rfft(samples[-SAMPLE_RATE_HZ // 2 :]))
    return float(2 * np.argmax(spectrum))


class Webrtcbin:
    """The program, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.packets = self.peak = 0
        self.description: dict[str, str] = {}
        self.states: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            words: dict[str, Any] = json.loads(line)
            if "sdp" in words:
                self.description = words
            elif "state" in words:
                self.states.append(words["state"])
            else:
                self.packets, self.peak = words["packets"], words["peak"]

    async def describe(self) -> str:
        await until(lambda: bool(self.description), "a description of webrtcbin", 20)
        return self.description["sdp"]

    def take(self, kind: str, sdp: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"type": kind, "sdp": sdp}).encode() + b"\n")

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def webrtcbin(machine: OtherMachine, *arguments: str) -> AsyncIterator[Webrtcbin]:
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", machine.name, PYTHON, str(PROGRAM), *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    client = Webrtcbin(process)
    try:
        yield client
    finally:
        await client.close()


def require_webrtcbin() -> None:
    if subprocess.run([PYTHON, "-c", NEEDED], capture_output=True, check=False).returncode:
        unavailable("GStreamer's webrtcbin with PyGObject (see docs/clients.md)")


@pytest.fixture(autouse=True)
def _gstreamer() -> None:
    require_webrtcbin()


@pytest.mark.parametrize("setup", ["actpass", "active"])
async def test_it_sends(setup: str) -> None:
    async with other_machine() as machine, on_stage() as stage, webrtcbin(machine, "send", "offer") as client:
        stage.peers.endpoint.sockets.settings = WebrtcSettings(host_addresses=(machine.here,))
        peer = stage.peers.sender(stage.track)
        stage._open.append(peer)
        peer.on_gone = stage.gone.append
        offer = (await client.describe()).replace("a=setup:actpass", f"a=setup:{setup}")
        client.take("answer", await peer.answer(offer))
        recorded = Recorder()
        stage.relay.attach(stage.track, recorded)
        await until(lambda: len(recorded.payloads) > 50, "its tone", 20)
        assert abs(frequency_hz(decode_opus(recorded.payloads)) - TONE_HZ) < 10
        assert stage.gone == []
        assert peer._dtls._role == ("server" if setup == "active" else "client")


@pytest.mark.parametrize("offers", [True, False])
async def test_it_receives(offers: bool) -> None:
    arguments = ["receive", *(["offer"] if offers else [])]
    async with other_machine() as machine, on_stage() as stage, webrtcbin(machine, *arguments) as client:
        stage.peers.endpoint.sockets.settings = WebrtcSettings(host_addresses=(machine.here,))
        peer = stage.peers.receiver(stage.track)
        stage._open.append(peer)
        peer.on_gone = stage.gone.append
        if offers:
            client.take("answer", await peer.answer(await client.describe()))
        else:
            client.take("offer", await peer.offer())
            await peer.accept(await client.describe())
        await until(lambda: peer.destination is not None, "the destination", 20)

        tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(5 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
        for payload in encode_opus(tone.astype(np.float32)):
            stage.publish(payload)
            await asyncio.sleep(0.02)
            if client.packets >= 20 and client.peak > 0:
                break
        assert client.packets >= 20
        assert 0.4 < client.peak / 32768 < 0.6
        assert stage.gone == []
