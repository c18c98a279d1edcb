"""The server as its clients see it: a second process, real sockets, aiortc at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time

import aiohttp
import pytest

from tests.support.live_streams import go_live, payloads, states
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender, wait_until_connected
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def server(emptied_daemon: RunningServer) -> RunningServer:
    return emptied_daemon


async def test_every_packet_of_every_sender_reaches_every_receiver_in_order(server: RunningServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(voice_sender(server.ws_url, name=f"voice {n}")) for n in range(5)]
        for sender in senders:
            await go_live(server, sender)
        receivers: dict[int, list[VoiceReceiver]] = {}
        for number in range(5):
            joins = (stack.enter_async_context(voice_receiver(server.ws_url, f"voice {number}")) for _ in range(4))
            receivers[number] = [await join for join in joins]
        before = [len(sender.sent) for sender in senders]
        # Every seventh packet is missing, as with DTX.
        await asyncio.gather(
            *(sender.send([None if n % 7 == 6 else p for n, p in enumerate(payloads(50))]) for sender in senders)
        )
        for number, sender in enumerate(senders):
            expected = sender.sent[before[number] :]
            for receiver in receivers[number]:
                await receiver.packets.wait_for(len(expected))
                assert receiver.packets.payloads() == expected
                sequences = [packet.sequence for packet in receiver.packets]
                assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(sequences))]
                assert_timestamps_keep_pauses([packet.timestamp for packet in receiver.packets])


def assert_timestamps_keep_pauses(timestamps: list[int]) -> None:
    steps = [(after - before) & 0xFFFFFFFF for before, after in itertools.pairwise(timestamps)]
    assert set(steps) == {960, 1920}
    assert [index % 6 for index, step in enumerate(steps) if step == 1920] == [5] * steps.count(1920)


async def test_a_newcomer_is_told_the_streams_and_the_end_is_told_to_all(server: RunningServer) -> None:
    async with signalling(server.ws_url) as early:
        assert await early.expect("available_streams") == {"type": "available_streams", "streams": [], "details": []}
        async with voice_sender(server.ws_url, name="Küche 2") as sender:
            assert await go_live(server, sender) == "Küche 2"
            assert await early.expect("stream_available") == {
                "type": "stream_available",
                "stream_id": "Küche 2",
                "name": "Küche 2",
            }
            async with signalling(server.ws_url) as late:
                listed = await late.expect("available_streams")
            assert listed["streams"] == ["Küche 2"]
            details = listed["details"][0]
            assert abs(details.pop("started_at") - time.time()) < 60
            assert details == {
                "stream_id": "Küche 2",
                "name": "Küche 2",
                "receivers": 0,
                "listeners": 0,
                "state": "active",
                "paused": False,
                "via": "websocket",
                "rooms": [],
                "recording": False,
                "node": "",
            }
            await sender.stop()
            ended = await early.expect("stream_ended")
        assert ended == {"type": "stream_ended", "stream_id": "Küche 2", "reason": "sender left"}


async def test_a_stream_is_announced_with_its_first_packet_and_not_before(server: RunningServer) -> None:
    async with voice_sender(server.ws_url) as sender, signalling(server.ws_url) as watcher:
        await watcher.expect_none("stream_available")
        assert await states(server) == []
        with pytest.raises(AssertionError, match="No audio stream available"):
            async with voice_receiver(server.ws_url):
                pass
        assert await go_live(server, sender) == f"stream_{sender.connection_id}"
        await watcher.expect("stream_available")
        assert await states(server) == ["active"]


async def test_a_sender_may_stop_and_start_again_on_one_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client, signalling(server.ws_url) as watcher:
        sender = VoiceSender(client)
        for _ in range(3):
            await sender.start(name="garden")
            await go_live(server, sender)
            await watcher.expect("stream_available", stream_id="garden")
            await sender.stop()
            await watcher.expect("stream_ended", stream_id="garden", reason="sender left")
        assert await states(server) == []


async def test_a_receiver_may_switch_streams_on_one_socket(server: RunningServer) -> None:
    async with (
        voice_sender(server.ws_url, name="one") as one,
        voice_sender(server.ws_url, name="two") as two,
        signalling(server.ws_url) as client,
    ):
        await go_live(server, one)
        await go_live(server, two)
        receiver = VoiceReceiver(client)
        for stream_id, sender in (("one", one), ("two", two), (None, two), ("one", one)):
            await receiver.start(stream_id)
            begun = len(sender.sent)
            await asyncio.gather(one.send(payloads(5)), two.send(payloads(5)))
            await receiver.packets.wait_for(5)
            assert receiver.packets.payloads() == sender.sent[begun:]
        await receiver.peer.close()


async def test_two_quick_requests_for_one_stream_are_one_request(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender, signalling(server.ws_url) as client:
        await go_live(server, sender)
        await client.send("start_receiving", stream_id="kitchen")
        await client.send("start_receiving", stream_id="kitchen")
        await client.send("start_receiving")
        offer = (await client.expect("webrtc_offer"))["offer"]
        await client.expect_none("webrtc_offer")
        receiver = VoiceReceiver(client)
        await receiver.answer(offer)
        await wait_until_connected(receiver.peer)
        await sender.send(payloads(10))
        await receiver.packets.wait_for(5)
        await receiver.peer.close()


async def test_an_intercom_sends_on_one_socket_and_receives_on_another(server: RunningServer) -> None:
    async with (
        voice_sender(server.ws_url, name="hall") as hall,
        voice_sender(server.ws_url, name="attic") as attic,
    ):
        await go_live(server, hall)
        await go_live(server, attic)
        async with (
            voice_receiver(server.ws_url, "attic") as hears_attic,
            voice_receiver(server.ws_url, "hall") as hears_hall,
        ):
            await asyncio.gather(hall.send(payloads(10)), attic.send(payloads(10)))
            for receiver, sender in ((hears_attic, attic), (hears_hall, hall)):
                await receiver.packets.wait_for(10)
                assert receiver.packets.payloads() == sender.sent[-10:]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "bad_message"),
        ("[1, 2]", "bad_message"),
        ("null", "bad_message"),
        ("{}", "bad_message"),
        ('{"type": 7}', "bad_message"),
        ('{"type": "no_such_thing"}', "unknown_type"),
        ('{"type": "webrtc_offer"}', "bad_message"),
        ('{"type": "webrtc_offer", "offer": {"sdp": 5, "type": "offer"}}', "bad_message"),
        ('{"type": "webrtc_offer", "offer": {"sdp": "v=0", "type": "offer"}}', "unexpected_offer"),
        ('{"type": "webrtc_answer", "answer": {"sdp": "v=0", "type": "answer"}}', "unexpected_answer"),
        ('{"type": "ice_candidate", "candidate": {"candidate": "x"}}', "unexpected_candidate"),
        ('{"type": "start_receiving", "stream_id": "../../etc/passwd"}', "no_stream"),
        ('{"type": "start_receiving", "stream_id": "' + "x" * 1024 + '"}', "bad_message"),
        ('{"type": "start_sending", "name": "a/b"}', "bad_name"),
        ('{"type": "start_sending", "name": "latest"}', "bad_name"),
        ("[" * 100_000, "bad_message"),
    ],
)
async def test_a_bad_message_gets_an_error_and_changes_nothing(server: RunningServer, text: str, code: str) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            for client in (sender.signalling, receiver.signalling):
                if code == "unexpected_offer" and client is sender.signalling:
                    continue  # From a sender it is expected.
                if code == "unexpected_candidate":
                    continue  # Both have a connection that it could belong to.
                await client.socket.send_str(text)
                assert (await client.expect("error"))["code"] == code
            async with signalling(server.ws_url) as newcomer:
                await newcomer.socket.send_str(text)
                assert (await newcomer.expect("error"))["code"] == code
            await sender.send(payloads(5))
            await receiver.packets.wait_for(5)
            assert receiver.packets.payloads() == sender.sent[-5:]


async def test_an_offer_that_cannot_be_read_leaves_the_live_media_alone(server: RunningServer) -> None:
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await go_live(server, sender)
        for sdp, code in (
            ("garbage", "bad_sdp"),
            ("v=0\r\nm=audio x\r\n", "bad_sdp"),
            ("", "bad_sdp"),
            ("v=0\r\n", "no_opus"),
        ):
            await sender.signalling.send("webrtc_offer", offer={"type": "offer", "sdp": sdp})
            assert (await sender.signalling.expect("error"))["code"] == code
        async with voice_receiver(server.ws_url) as receiver:
            await sender.send(payloads(5))
            await receiver.packets.wait_for(5)


async def test_binary_frames_are_refused_and_oversized_ones_close_the_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        await client.socket.send_bytes(b"{}")
        assert (await client.expect("error"))["code"] == "bad_message"
        await client.socket.send_str(json.dumps({"type": "x" * (256 * 1024)}))
        assert await client.expect_close() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_one_connection_too_many_is_refused_before_the_upgrade() -> None:
    async with running_server({"server": {"max_connections": 2}}) as server:
        async with signalling(server.ws_url), signalling(server.ws_url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with signalling(server.ws_url):
                    pass
            assert refused.value.status == 503
            assert refused.value.headers is not None
            assert int(refused.value.headers["Retry-After"]) > 0
        async with signalling(server.ws_url) as again:
            await again.expect("available_streams")


async def test_the_index_is_a_page_and_a_signalling_socket(server: RunningServer) -> None:
    async with signalling(server.ws_url.removesuffix("ws")) as client:
        await client.expect("available_streams")
    async with aiohttp.ClientSession() as http, http.get(server.url("/")) as response:
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
