"""WHIP and WHEP over real sockets, with aiortc at the other end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from tests.support.descriptions import browser_sdp
from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import PAYLOADS, Client, until
from tests.support.whip_client import FRAGMENT, WhipClient, whip_client
from tests.support.whip_peers import RESUME, playing, publishing, receive_offer, receivers_become
from voice_streaming.sessions.claim import Claim
from voice_streaming.sessions.connection import Connection
from voice_streaming.sessions.publish_session import PublishSession
from voice_streaming.settings.model import ServerSettings, Settings, WebrtcSettings
from webrtc_server_relay import VoiceStreamingServer


@asynccontextmanager
async def visitor(server: RunningServer) -> AsyncIterator[WhipClient]:
    async with whip_client(server.url("/")) as client:
        yield client


async def details(server: RunningServer) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(server.url("/stream/status")) as response:
        return list((await response.json())["details"])


async def health(server: RunningServer) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(server.url("/health")) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def receiver_details(server: RunningServer) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(server.url("/metrics?details=1")) as response:
        return list((await response.json())["receiver_details"])


async def test_a_voice_travels_from_whip_to_whep_and_to_the_websocket(server: RunningServer) -> None:
    async with visitor(server) as web, signalling(server.ws_url) as watcher, publishing(web) as (sender, created):
        sender.say(PAYLOADS[0])
        await watcher.expect("stream_available", stream_id="kitchen")
        async with playing(web) as (player, answer), playing(web, "/whep/latest") as (newest, _):
            async with voice_receiver(server.ws_url, "kitchen") as receiver:
                (listed,) = await details(server)
                assert (listed["via"], listed["receivers"]) == ("whip", 3)
                checked = await health(server)
                assert checked["connected_clients"] == 5
                assert checked["clients_via"] == {"websocket": 2, "whip": 1, "whep": 2}
                await receivers_become(server, 3)
                received_via = sorted(one["via"] for one in await receiver_details(server))
                assert received_via == ["websocket", "whep", "whep"]
                for payload in PAYLOADS[1:]:
                    sender.say(payload)
                    await asyncio.sleep(0.005)
                for packets in (player.packets, newest.packets, receiver.packets):
                    await packets.wait_for(len(PAYLOADS) - 1)
                    assert packets.payloads() == PAYLOADS[1:]
            assert "a=sendonly" in answer.text
        assert "a=recvonly" in created.text
        assert re.fullmatch(r"/whip/sessions/[\w-]{22}", created.location)
        assert re.fullmatch(r'"[\w-]+"', created.headers["ETag"])
        assert created.headers["Content-Type"] == "application/sdp"
        assert "a=candidate:" in created.text


async def test_delete_says_goodbye_and_ends_the_stream_and_a_second_one_is_404(server: RunningServer) -> None:
    async with visitor(server) as web, signalling(server.ws_url) as watcher, publishing(web) as (sender, created):
        sender.say(PAYLOADS[0])
        await watcher.expect("stream_available")
        async with playing(web) as (_, playing_answer):
            deleted = await web.ask("DELETE", playing_answer.location)
            assert deleted.status == 200
            assert (await web.ask("DELETE", playing_answer.location)).status == 404
        assert (await web.ask("DELETE", created.location)).status == 200
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")
        assert (await web.ask("DELETE", created.location)).status == 404
        assert (await web.ask("PATCH", created.location, "a=end-of-candidates\r\n", FRAGMENT)).status == 404
        assert (await health(server))["connected_clients"] == 1


async def test_a_session_is_of_its_own_protocol(server: RunningServer) -> None:
    async with visitor(server) as web, publishing(web) as (_, created):
        assert (await web.ask("DELETE", created.location.replace("whip", "whep", 1))).status == 404


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status", "says"),
    [
        ("/whip/kitchen", "v=0", "text/plain", 415, "application/sdp"),
        ("/whip/kitchen", "", "application/sdp", 400, "cannot be read"),
        ("/whip/kitchen", b"\xff\xfe", "application/sdp", 400, "UTF-8"),
        ("/whip/kitchen", "x" * 70_000, "application/sdp", 413, "characters"),
        ("/whip/kitchen", "x" * 300_000, "application/sdp", 413, "too long"),
        ("/whip/latest", "v=0", "application/sdp", 400, "reserved"),
        ("/whep/nowhere", "v=0", "application/sdp", 409, "No audio stream"),
        ("/whep/latest", "v=0", "application/sdp", 409, "No audio stream"),
    ],
)
async def test_what_is_wrong_is_said_in_one_sentence(
    server: RunningServer, path: str, body: str | bytes, content_type: str, status: int, says: str
) -> None:
    async with visitor(server) as web:
        answer = await web.ask("POST", path, body, {"Content-Type": content_type})
        assert answer.status == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(answer.text)
        assert problem["status"] == status
        assert says in problem["detail"]
        assert ("Retry-After" in answer.headers) is (status == 409)
        assert (await health(server))["connected_clients"] == 0


async def test_an_offer_without_opus_is_422(server: RunningServer) -> None:
    async with visitor(server) as web:
        offer = (await Client().offer()).replace("opus/48000/2", "G722/8000")
        assert (await web.post("/whip/kitchen", offer)).status == 422


async def test_video_and_data_are_refused_and_audio_is_taken(server: RunningServer) -> None:
    async with visitor(server) as web:
        answer = await web.post("/whip/kitchen", browser_sdp("chromium_video_audio_data"))
        assert answer.status == 201, answer.text
        ports = re.findall(r"^m=(\w+) (\d+)", answer.text, re.MULTILINE)
        assert {kind: port == "0" for kind, port in ports} == {"video": True, "audio": False, "application": True}
        assert (await web.ask("DELETE", answer.location)).status == 200


async def test_candidates_trickle_with_the_entity_tag_or_the_user_name(server: RunningServer) -> None:
    async with visitor(server) as web:
        client = Client()
        offer = await client.offer()
        (ufrag,) = set(re.findall(r"a=ice-ufrag:(\S+)", offer))
        candidates = re.findall(r"^a=candidate:.*$", offer, re.MULTILINE)
        bare = re.sub(r"^a=(candidate:.*|end-of-candidates)\r\n", "", offer, flags=re.MULTILINE)
        created = await web.post("/whip/kitchen", bare)
        etag = created.headers["ETag"]
        for headers, text, status in (
            ({"If-Match": etag}, "a=candidate:1 1 udp 1 abc.local 9 typ host\r\n", 204),
            ({"If-Match": '"stale"'}, f"a=ice-ufrag:{ufrag}\r\n", 412),
            ({}, "a=end-of-candidates\r\n", 428),
            ({}, "a=ice-ufrag:other\r\n", 428),
            ({"If-Match": etag}, "nonsense", 400),
            ({}, f"a=ice-ufrag:{ufrag}\r\n" + "".join(f"{line.strip()}\r\n" for line in candidates), 204),
        ):
            answer = await web.ask("PATCH", created.location, text, FRAGMENT | headers)
            assert answer.status == status, (headers, text, answer.text)
        wrong_type = await web.ask("PATCH", created.location, "", {"Content-Type": "application/json"})
        assert wrong_type.status == 415
        await client.take_answer(created.text)
        await until(lambda: client.peer.connectionState == "connected", "it is connected")
        await client.peer.close()


async def test_ice_restarts_on_the_same_association(server: RunningServer) -> None:
    """The client's part is played by hand, as aiortc cannot restart ICE."""
    async with visitor(server) as web, publishing(web) as (sender, created):
        await until(lambda: sender.peer.connectionState == "connected", "it is connected")
        fragment = "a=ice-ufrag:fresh\r\na=ice-pwd:a-password-of-22-letters-at-least\r\n"
        answer = await web.ask("PATCH", created.location, fragment, FRAGMENT | {"If-Match": "*"})
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/trickle-ice-sdpfrag"
        assert answer.headers["ETag"] != created.headers["ETag"]
        assert "a=ice-ufrag:" in answer.text
        assert "a=candidate:" in answer.text
        (before,) = set(re.findall(r"a=ice-ufrag:(\S+)", created.text))
        assert before not in answer.text
        stale = await web.ask(
            "PATCH", created.location, "a=end-of-candidates\r\n", FRAGMENT | {"If-Match": created.headers["ETag"]}
        )
        assert stale.status == 412
        # Media goes on over the old pair.
        sender.say(PAYLOADS[0])
        async with signalling(server.ws_url) as watcher:
            await until_live(watcher)


async def until_live(watcher: Any) -> None:
    listed = await watcher.expect("available_streams")
    if "kitchen" not in listed["streams"]:
        await watcher.expect("stream_available", stream_id="kitchen")


async def test_a_live_name_is_taken_but_for_its_key(server: RunningServer) -> None:
    async with visitor(server) as web, signalling(server.ws_url) as watcher, publishing(web) as (first, created):
        first.say(PAYLOADS[0])
        await watcher.expect("stream_available")
        refused = await web.post("/whip/kitchen", await Client().offer())
        assert refused.status == 409
        assert "in use" in refused.text
        async with playing(web) as (player, _):
            await receivers_become(server, 1)
            key = created.headers[RESUME]
            async with publishing(web, **{RESUME: key}) as (second, again):
                await until(lambda: second.peer.connectionState == "connected", "it is connected")
                assert again.headers[RESUME] != key
                second.say(PAYLOADS[1])
                await player.packets.wait_for(1)
                assert player.packets.payloads()[-1] == PAYLOADS[1]
                await until(lambda: first.peer.connectionState == "closed", "the first one was told goodbye")
            assert (await web.ask("DELETE", created.location)).status == 404


@pytest.mark.parametrize(
    ("part", "instead", "status"), [("a=setup:", "a=nothing:", 400), ("opus/48000/2", "G722/8000", 422)]
)
async def test_a_refused_offer_does_not_spend_the_key(
    server: RunningServer, part: str, instead: str, status: int
) -> None:
    """The publisher is told its next key with an answer alone."""
    async with visitor(server) as web, signalling(server.ws_url) as watcher, publishing(web) as (first, created):
        first.say(PAYLOADS[0])
        await watcher.expect("stream_available")
        key = {RESUME: created.headers[RESUME]}
        for _ in range(2):
            offer = (await Client().offer()).replace(part, instead)
            assert (await web.post("/whip/kitchen", offer, **key)).status == status
        async with publishing(web, **key) as (second, again):
            await until(lambda: second.peer.connectionState == "connected", "it is connected")
            # Once it was answered, it is spent.
            assert (await web.post("/whip/kitchen", await Client().offer(), **key)).status == 409
            assert (await web.ask("DELETE", again.location)).status == 200


async def test_tokens_have_their_scopes_and_one_that_names_the_stream_may_take_it() -> None:
    tokens = [
        {"token": "the-owner-of-the-kitchen", "scopes": ["send"], "streams": ["kitchen"]},
        {"token": "somebody-who-may-send", "scopes": ["send"]},
        {"token": "somebody-who-may-listen", "scopes": ["receive"]},
    ]

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    async with running_server({"access": {"tokens": tokens}}) as server, visitor(server) as web:
        offer = await Client().offer()
        unknown = await web.post("/whip/kitchen", offer)
        assert unknown.status == 401
        assert unknown.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await web.post("/whip/kitchen", offer, **bearer("somebody-who-may-listen"))).status == 403
        assert (await web.post("/whip/hall", offer, **bearer("the-owner-of-the-kitchen"))).status == 403
        listening = f"{server.ws_url}?token=somebody-who-may-listen"
        async with (
            publishing(web, "/whip/kitchen?token=somebody-who-may-send") as (first, _),
            signalling(listening) as watcher,
        ):
            first.say(PAYLOADS[0])
            await until_live(watcher)
            assert (await web.post("/whip/kitchen", offer, **bearer("somebody-who-may-send"))).status == 409
            async with publishing(web, **bearer("the-owner-of-the-kitchen")) as (second, _):
                await until(lambda: second.peer.connectionState == "connected", "it is connected")
                assert (await web.post("/whep/kitchen", offer, **bearer("somebody-who-may-send"))).status == 403


async def test_the_limits_are_those_of_the_websocket() -> None:
    limits = {"max_streams": 1, "max_receivers": 1, "connections_per_address": 2}
    async with running_server({"limits": limits}) as server, visitor(server) as web, publishing(web) as (sender, _):
        full = await web.post("/whip/hall", await Client().offer())
        assert (full.status, full.headers["Retry-After"]) == (503, "5")
        async with signalling(server.ws_url) as watcher:
            sender.say(PAYLOADS[0])
            await until_live(watcher)
            crowded = await web.post("/whep/kitchen", await receive_offer(Client()))
            assert crowded.status == 429, "two connections of this address are there: the publisher's and the socket"
            assert crowded.headers["Retry-After"] == "5"
        async with playing(web) as (_, answer):
            assert (await web.post("/whep/kitchen", await receive_offer(Client()))).status == 503
            await web.ask("DELETE", answer.location)
        async with playing(web):
            pass


async def test_sessions_without_media_end_and_their_url_is_404() -> None:
    async with running_server({"webrtc": {"connection_timeout": 0.5}}) as server, visitor(server) as web:
        client = Client()
        created = await web.post("/whip/kitchen", await client.offer())
        assert created.status == 201

        async with asyncio.timeout(10):
            while (  # noqa: ASYNC110 - nothing tells when it ends
                await web.ask("PATCH", created.location, "a=end-of-candidates\r\n", FRAGMENT)
            ).status != 404:
                await asyncio.sleep(0.05)
        assert (await health(server))["connected_clients"] == 0
        await client.peer.close()


async def test_a_name_that_a_websocket_holds_can_be_received_by_whep(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="Küche 2") as sender, visitor(server) as web:
        await sender.send([b"voice"])
        await sender.signalling.expect("stream_available")
        async with playing(web, "/whep/K%C3%BCche%202") as (player, _):
            await receivers_become(server, 1)
            await sender.send([b"more"])
            await player.packets.wait_for(1)


async def test_a_stream_whose_sender_was_lost_is_received_at_once(server: RunningServer) -> None:
    """As long as it waits for its sender (`webrtc.resume_grace_s`)."""
    async with visitor(server) as web, signalling(server.ws_url) as watcher, publishing(web) as (first, created):
        first.say(PAYLOADS[0])
        await watcher.expect("stream_available", stream_id="kitchen")
        await first.peer.close()
        await watcher.expect("stream_paused", stream_id="kitchen")
        async with playing(web) as (player, _):
            await until(lambda: player.peer.connectionState == "connected", "it is connected")
            async with publishing(web, **{RESUME: created.headers[RESUME]}) as (second, _):
                await until(lambda: second.peer.connectionState == "connected", "it is connected")
                second.say(PAYLOADS[1])
                await player.packets.wait_for(1)
                assert player.packets.payloads() == [PAYLOADS[1]]


async def test_a_publisher_that_waits_while_the_server_stops_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(server=ServerSettings(tls="off"), webrtc=WebrtcSettings(host_addresses=("127.0.0.1",)))
    server = VoiceStreamingServer(settings)
    publish, waits, stopped = server.sessions.publish, asyncio.Event(), asyncio.Event()

    async def publish_late(connection: Connection, claim: Claim) -> PublishSession:
        waits.set()
        await stopped.wait()
        return await publish(connection, claim)

    monkeypatch.setattr(server.sessions, "publish", publish_late)
    client = Client()
    async with TestServer(server._application()) as running, whip_client(str(running.make_url("/"))) as web:
        request = asyncio.create_task(web.post("/whip/kitchen", await client.offer()))
        await waits.wait()
        await server.stop()
        stopped.set()
        assert (await request).status == 503
        assert server.sessions.active == {}
        assert len(server.whip.connections) == 0
    await client.peer.close()
