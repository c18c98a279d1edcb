"""What other programs send, where the program itself cannot be had from a registry of packages: OBS, MediaMTX, go2rtc.

Each test stands in for one of them. Requests, their headers and order, the shape of offers, and what the program
insists on in an answer are as its source has them; ICE, DTLS and RTP are aiortc's. So this proves that the server suits
the program's HTTP, and no more of the program.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection

from tests.support.rtc_client import gather_on_loopback, record_packets, voice_receiver
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import PAYLOADS, Client, until
from tests.support.whip_client import Answer, WhipClient, whip_client
from tests.support.whip_peers import publishing, receivers_become

TOKEN = "a-token-of-a-program"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STUN = "stun:127.0.0.1:9"
SETTINGS = {
    "access": {"tokens": [{"token": TOKEN, "scopes": ["send", "receive", "admin"]}]},
    "webrtc": {"ice_servers": [{"urls": STUN}]},
}


@asynccontextmanager
async def guarded_server() -> AsyncIterator[tuple[RunningServer, WhipClient]]:
    async with running_server(SETTINGS) as server, whip_client(server.url("/")) as web:
        yield server, web


def bundled_client() -> Client:
    """All media of it share a transport, as with every client here."""
    client = Client()
    client.peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    return client


async def describe(client: Client) -> str:
    """The offer with all of its candidates."""
    gather_on_loopback(client.peer)
    await client.peer.setLocalDescription(await client.peer.createOffer())
    for transceiver in client.peer.getTransceivers():
        record_packets(transceiver.receiver, client.packets)
    return str(client.peer.localDescription.sdp)


def without_candidates(offer: str) -> str:
    return re.sub(r"^a=(candidate:.*|end-of-candidates)\r\n", "", offer, flags=re.MULTILINE)


def with_candidates_last(answer: str) -> str:
    """aiortc 1.16 takes the candidates of a transport's last section alone, also where that is a refused one."""
    return answer + "".join(f"{line}\r\n" for line in re.findall(r"^a=candidate:[^\r]*", answer, re.MULTILINE))


def ports(description: str) -> list[tuple[str, bool]]:
    """The kind of each section, and whether it was refused."""
    return [(kind, port == "0") for kind, port in re.findall(r"^m=(\w+) (\d+)", description, re.MULTILINE)]


async def say(client: Client, payloads: list[bytes]) -> None:
    for payload in payloads:
        client.say(payload)
        await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_obs_publishes() -> None:
    """obs-studio `plugins/obs-webrtc/whip-output.cpp` of 2026-08; libdatachannel is its media.

    Its offer is audio, then video, without a candidate; it gathers after the answer and sends no `PATCH`, so that the
    server learns its address from its checks. It insists on 201, a body and a `Location`, whose path replaces that of
    the URL that it asked, and leaves by closing its connection first and then by `DELETE`, which is to answer 200.
    """
    async with guarded_server() as (server, web), signalling(f"{server.ws_url}?token={TOKEN}") as watcher:
        client = bundled_client()
        client.peer.addTransceiver(client.voice, direction="sendonly")
        client.peer.addTransceiver("video", direction="sendonly")
        offer = without_candidates(await describe(client))
        assert ports(offer) == [("audio", False), ("video", False)]
        agent = {"User-Agent": "Mozilla/5.0 (OBS-Studio/32.0.0; Linux x86_64; en-US)"}
        created = await web.post("/whip/kitchen?ignored=1", offer, **BEARER, **agent)
        assert created.status == 201, created.text
        assert created.text.startswith("v=0")
        assert ports(created.text) == [("audio", False), ("video", True)]
        assert re.fullmatch(r"/[^?]+", created.location)
        # From a link it takes what is between the brackets, if it begins with `stun:`.
        assert created.headers["Link"].startswith(f"<{STUN}>;")
        await client.take_answer(with_candidates_last(created.text))
        await until(lambda: client.peer.connectionState == "connected", "it is connected")
        await say(client, PAYLOADS[:1])
        await watcher.expect("stream_available", stream_id="kitchen")
        async with voice_receiver(f"{server.ws_url}?token={TOKEN}", "kitchen") as receiver:
            await say(client, PAYLOADS[1:])
            await receiver.packets.wait_for(len(PAYLOADS) - 1)
            assert receiver.packets.payloads() == PAYLOADS[1:]
        await client.peer.close()
        assert (await web.ask("DELETE", created.location, headers=BEARER | agent)).status == 200
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


class MediaMtx:
    """MediaMTX's `internal/protocols/whip/client.go` of 1.20, for WHIP and WHEP: pion is its media.

    It first asks by `OPTIONS`, with its token, whether `PATCH` is allowed and for ICE servers; then offers without
    candidates, insists on 201, the type and an `ETag`, and sends each candidate in a `PATCH` of its own, which is to
    answer 204. Its URL is then what `Location` is, relative to the one before; a `DELETE` of it is to answer 200.
    """

    def __init__(self, web: WhipClient, path: str) -> None:
        self.client = bundled_client()
        self.created: Answer | None = None
        self._web = web
        self._path = path

    async def connect(self) -> None:
        options = await self._web.ask("OPTIONS", self._path, headers=BEARER)
        assert options.status in (200, 204)
        assert "PATCH" in options.headers["Access-Control-Allow-Methods"].split(", ")
        # Nothing may stand between the two, nor after them but a user name.
        assert options.headers.getall("Link") == [f'<{STUN}>; rel="ice-server"']
        offer = await describe(self.client)
        created = await self._web.post(self._path, without_candidates(offer), **BEARER)
        assert created.status == 201, created.text
        assert created.headers["Content-Type"].split(";")[0].strip() == "application/sdp"
        assert created.headers["ETag"]
        self.created, self._path = created, created.location
        await self.client.take_answer(created.text)
        for fragment in self._fragments(offer):
            headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": created.headers["ETag"]}
            assert (await self._web.ask("PATCH", self._path, fragment, BEARER | headers)).status == 204
        await until(lambda: self.client.peer.connectionState == "connected", "it is connected")

    def _fragments(self, offer: str) -> list[str]:
        """One for each candidate, whose line has `candidate:` twice: pion's own text begins with it."""
        section = offer[offer.index("m=") :].split("\r\nm=")[0]
        media = section.split("\r\n")[0]
        credentials = "".join(f"{line}\r\n" for line in re.findall(r"^a=ice-(?:ufrag|pwd):\S+", section, re.MULTILINE))
        found = re.findall(r"^a=(candidate:.*)\r$", section, re.MULTILINE)
        assert found
        return [f"{media}\r\na=mid:0\r\n{credentials}a=candidate:{candidate}\r\n" for candidate in found]

    async def close(self) -> None:
        assert (await self._web.ask("DELETE", self._path, headers=BEARER)).status == 200
        await self.client.peer.close()


@pytest.mark.slow
async def test_mediamtx_publishes() -> None:
    """Its sections are `sendrecv`, as pion's `AddTrack` makes them."""
    async with guarded_server() as (server, web), signalling(f"{server.ws_url}?token={TOKEN}") as watcher:
        publisher = MediaMtx(web, "/whip/kitchen")
        publisher.client.peer.addTransceiver(publisher.client.voice, direction="sendrecv")
        await publisher.connect()
        await say(publisher.client, PAYLOADS[:1])
        await watcher.expect("stream_available", stream_id="kitchen")
        async with voice_receiver(f"{server.ws_url}?token={TOKEN}", "kitchen") as receiver:
            await say(publisher.client, PAYLOADS[1:])
            await receiver.packets.wait_for(len(PAYLOADS) - 1)
            assert receiver.packets.payloads() == PAYLOADS[1:]
        await publisher.close()
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


async def test_mediamtx_plays() -> None:
    """It takes an answer with one section of video and one of audio at most."""
    async with (
        guarded_server() as (server, web),
        signalling(f"{server.ws_url}?token={TOKEN}") as watcher,
        publishing(web, **BEARER) as (sender, _),
    ):
        await say(sender, PAYLOADS[:1])
        await watcher.expect("stream_available", stream_id="kitchen")
        player = MediaMtx(web, "/whep/kitchen")
        player.client.peer.addTransceiver("video", direction="recvonly")
        player.client.peer.addTransceiver("audio", direction="recvonly")
        await player.connect()
        assert player.created is not None
        assert ports(player.created.text) == [("video", True), ("audio", False)]
        await receivers_become(server, 1, TOKEN)
        await say(sender, PAYLOADS[1:])
        await player.client.packets.wait_for(len(PAYLOADS) - 1)
        assert player.client.packets.payloads() == PAYLOADS[1:]
        await player.close()
        await receivers_become(server, 0, TOKEN)


async def test_go2rtc_plays() -> None:
    """go2rtc 1.9's `webrtc:http://…` (`internal/webrtc/client.go`); Home Assistant's cards reach other servers by it.

    It offers video and audio with all candidates, sends one header, looks at no status and no `Location`, and leaves by
    closing its connection: it neither patches nor deletes. It has no setting for a token but the URL.
    """
    async with (
        guarded_server() as (server, web),
        signalling(f"{server.ws_url}?token={TOKEN}") as watcher,
        publishing(web, **BEARER) as (sender, _),
    ):
        await say(sender, PAYLOADS[:1])
        await watcher.expect("stream_available", stream_id="kitchen")
        client = bundled_client()
        client.peer.addTransceiver("video", direction="recvonly")
        client.peer.addTransceiver("audio", direction="recvonly")
        offer = await describe(client)
        assert "a=candidate:" in offer
        created = await web.post(f"/whep/kitchen?token={TOKEN}", offer)
        assert ports(created.text) == [("video", True), ("audio", False)]
        await client.take_answer(created.text)
        await receivers_become(server, 1, TOKEN)
        await say(sender, PAYLOADS[1:])
        await client.packets.wait_for(len(PAYLOADS) - 1)
        assert client.packets.payloads() == PAYLOADS[1:]
        await client.peer.close()
        await receivers_become(server, 0, TOKEN)
        assert (await web.ask("GET", created.location)).status == 404
