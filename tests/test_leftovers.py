"""What a client leaves behind goes at once: the collector is told to come seldom, as it holds up all voices."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.support.descriptions import browser_sdp
from tests.support.ports import free_port
from tests.support.rtc_client import gather_on_loopback, voice_receiver, voice_sender, wait_until_connected
from tests.support.signalling import signalling
from tests.support.stage import Client
from tests.support.whip_client import FRAGMENT, whip_client
from voice_streaming.listening.channels import StreamChannel
from voice_streaming.listening.lame import Mp3Encoder
from voice_streaming.listening.listeners import Listener
from voice_streaming.listening.mp3 import Programme
from voice_streaming.media.pcm import PcmTimeline
from voice_streaming.rtc import ReceiverPeer, SenderPeer
from voice_streaming.rtc.fanout import Fanout
from voice_streaming.sessions.connection import Connection
from voice_streaming.settings.model import AudioSettings, LimitSettings, ServerSettings, Settings, WebrtcSettings
from voice_streaming.signalling.meters import Meter
from voice_streaming.streams.pcm_source import PcmSource
from voice_streaming.streams.stream import Stream
from voice_streaming.streams.track import OpusTrack
from webrtc_server_relay import VoiceStreamingServer

OURS = (
    *(Connection, Stream, SenderPeer, ReceiverPeer, OpusTrack, Fanout, RequestHandler, web.WebSocketResponse),
    *(web.Request, Listener, StreamChannel, Programme, Mp3Encoder, PcmSource, PcmTimeline, Meter),
)


@pytest.fixture
async def ws_url(tmp_path: Path) -> AsyncIterator[str]:
    settings = Settings(
        server=ServerSettings(host="127.0.0.1", port=free_port(), tls="off", data_dir=str(tmp_path)),
        audio=AudioSettings(port=free_port(), encoder_linger_s=0),
        webrtc=WebrtcSettings(host_addresses=("127.0.0.1",)),
    )
    server = VoiceStreamingServer(settings)
    await server.start()
    yield f"ws://127.0.0.1:{settings.server.port}/ws"
    await server.stop()
    gc.unfreeze()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def only_looks(url: str) -> None:
    async with signalling(url) as client:
        await client.expect("available_streams")


async def listens(url: str) -> None:
    async with voice_sender(url, name="kitchen") as sender:
        await sender.send([b"\xf8\xff\xfe"] * 3)
        async with voice_receiver(url, "kitchen"):
            await sender.send([b"\xf8\xff\xfe"] * 3)
        await sender.stop()


async def plays(url: str) -> None:
    """The MP3 of a stream that ends, and of one that goes on."""
    async with voice_sender(url, name="kitchen") as sender, aiohttp.ClientSession() as http:
        await sender.send([b"\xf8\xff\xfe"] * 3)
        base = url.replace("ws:", "http:").removesuffix("/ws")
        async with http.get(f"{base}/stream/kitchen.mp3") as player, http.get(f"{base}/stream/latest.mp3") as radio:
            await player.content.readany()
            await radio.content.readany()
            await sender.send([b"\xf8\xff\xfe"] * 20)
            radio.close()
            await sender.stop()
            await player.content.read()


async def watches(url: str) -> None:
    async with voice_sender(url, name="kitchen") as sender, signalling(url) as client:
        await sender.send([b"\xf8\xff\xfe"] * 3)
        await client.send("subscribe_visualization", stream_id="kitchen")
        await sender.send([b"\xf8\xff\xfe"] * 10)
        await client.expect("audio_data")
        await sender.stop()


async def offers_and_leaves(url: str) -> None:
    """Its peer connection never connects."""
    async with signalling(url) as client:
        await client.send("start_sending")
        await client.send("webrtc_offer", offer={"type": "offer", "sdp": browser_sdp("chromium_audio")})
        await client.expect("webrtc_answer")


async def offers_nonsense(url: str) -> None:
    whole = browser_sdp("chromium_audio")
    async with signalling(url) as client:
        for length in (10, len(whole) // 2, len(whole) - 40):
            await client.send("start_sending")
            await client.send("webrtc_offer", offer={"type": "offer", "sdp": whole[:length]})
        await client.settle()


async def says_too_much(url: str) -> None:
    async with signalling(url) as client:
        for _ in range(2 * LimitSettings().message_burst):
            await client.send("get_available_streams")
        await client.expect("error", code="too_many_messages")
        await client.expect_close()


async def whip_and_whep(url: str) -> None:
    """Some end their session, one leaves without a word, and some never get one."""
    async with whip_client(url.replace("ws:", "http:")) as web, signalling(url) as watcher:
        sender, player, lost = Client(), Client(), Client()
        created = await web.post("/whip/kitchen", await sender.offer())
        await sender.take_answer(created.text)
        sender.say(b"\xf8\xff\xfe")
        await watcher.expect("stream_available")
        for client in (player, lost):
            client.peer.addTransceiver("audio", direction="recvonly")
            gather_on_loopback(client.peer)
            await client.peer.setLocalDescription(await client.peer.createOffer())
        played = await web.post("/whep/kitchen", client_offer(player))
        await player.take_answer(played.text)
        await wait_until_connected(player.peer)
        assert (await web.post("/whep/kitchen", client_offer(lost))).status == 201
        fragment = "a=ice-ufrag:fresh\r\na=ice-pwd:a-password-of-22-letters-at-least\r\n"
        restarted = await web.ask("PATCH", played.location, fragment, FRAGMENT | {"If-Match": "*"})
        assert restarted.status == 200
        assert (await web.post("/whip/hall", "v=0\r\n")).status == 422
        assert (await web.post("/whep/hall", client_offer(lost))).status == 409
        for session in (played, created):
            assert (await web.ask("DELETE", session.location)).status == 200
        for client in (sender, player, lost):
            await client.peer.close()


def client_offer(client: Client) -> str:
    return str(client.peer.localDescription.sdp)


@pytest.mark.parametrize(
    "visit", [only_looks, listens, plays, watches, offers_and_leaves, offers_nonsense, says_too_much, whip_and_whep]
)
async def test_nothing_of_a_visit_waits_for_the_collector(
    ws_url: str, without_collector: None, visit: Callable[[str], Awaitable[None]]
) -> None:
    for _ in range(2):
        await visit(ws_url)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while left_behind():  # noqa: ASYNC110 - nothing tells when an object goes
                await asyncio.sleep(0.05)
    assert left_behind() == []


def left_behind() -> list[str]:
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, OURS)]
