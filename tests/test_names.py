"""Names of every script on their way through the daemon: addresses, headers, metadata, log, JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.raw_http import raw_request
from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from voice_streaming.access.tokens import new_token

ACCEPTED = json.loads((Path(__file__).parent / "cases" / "names.json").read_text())["accepted"]
PAYLOAD = bytes([120]) * 60
SECRET = "a secret of more than thirty-two characters"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def play(server: RunningServer, name: str) -> None:
    """Reads one block of metadata, and compares it and the header with the name."""
    address = f"/stream/{quote(name, safe='')}.mp3"
    async with raw_request(server.audio_port, address, "Icy-MetaData: 1") as answer:
        assert answer.status == 200
        assert answer.headers["icy-name"] == name
        audio = await answer.some(int(answer.headers["icy-metaint"]) + 1)
        block = await answer.some(audio[-1] * 16)
    title = block.rstrip(b"\0").decode().removeprefix("StreamTitle='").removesuffix("';")
    assert title == name.replace("'", "\u2019")


async def test_every_accepted_name_is_carried_everywhere(server: RunningServer) -> None:
    for name in ACCEPTED:
        async with voice_sender(server.ws_url, name=name) as sender:
            assert sender.stream_id == name
            await sender.send([PAYLOAD])
            await server.process.wait_for_log(f"Stream {name!a} is live")
            async with aiohttp.ClientSession() as http, http.get(server.url("/stream/status")) as status:
                assert (await status.json())["active_streams"] == [name]
            await play(server, name)
    assert f"Encoding stream {ACCEPTED[0]} as MP3" in "\n".join(server.log)


async def test_a_name_is_one_in_whatever_case_it_is_written() -> None:
    config = {"access": {"token_secret": SECRET}}
    token = new_token(SECRET, ["send", "receive"], ["KITCHEN"], days=1)
    async with running_server(config) as server:
        async with voice_sender(f"{server.ws_url}?token={token}", name="Kitchen") as sender:
            await sender.send([PAYLOAD])
            await server.process.wait_for_log("Stream 'Kitchen' is live")
            async with signalling(f"{server.ws_url}?token={token}") as receiver:
                await receiver.send("start_receiving", stream_id="kitchen")
                assert (await receiver.expect("webrtc_offer"))["stream_id"] == "Kitchen"
            async with raw_request(server.audio_port, f"/stream/KITCHEN.mp3?token={token}") as answer:
                assert answer.status == 200
                assert answer.headers["icy-name"] == "Kitchen"
            async with voice_sender(f"{server.ws_url}?token={token}", name="kitchen", take_over=True) as other:
                assert other.stream_id == "Kitchen"
                await sender.signalling.expect("stream_ended", stream_id="Kitchen", reason="replaced")
                await other.send([PAYLOAD])
                listed = await streams(server, token)
                assert listed == ["Kitchen"]
        async with signalling(f"{server.ws_url}?token={token}") as late:
            await late.send("start_receiving", stream_id="KITCHEN")
            assert (await late.expect("error"))["code"] == "stream_ended"


async def streams(server: RunningServer, token: str) -> list[str]:
    async with asyncio.timeout(5), signalling(f"{server.ws_url}?token={token}") as client:
        listed: list[str] = (await client.expect("available_streams"))["streams"]
        return listed
