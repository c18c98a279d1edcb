"""`subscribe_events`, over real sockets."""

from __future__ import annotations

import time

from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import Signalling, signalling

VOICE = [b"voice of one packet"]


async def events(client: Signalling, *kinds: str) -> None:
    for kind in kinds:
        event = await client.expect("event", kind=kind)
        assert event["stream_id"] == "kitchen"
        assert abs(event.pop("at") - time.time()) < 60
        further = {"live": {"name": "kitchen"}, "ended": {"reason": "sender left"}}.get(kind, {})
        assert event == {"type": "event", "kind": kind, "stream_id": "kitchen", **further}


async def test_events_of_the_kinds_that_were_asked_for_and_of_all_without_kinds(server: RunningServer) -> None:
    async with signalling(server.ws_url) as some, signalling(server.ws_url) as everything:
        await some.send("subscribe_events", kinds=["ended"])
        await everything.send("subscribe_events")
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await sender.send(VOICE)
            await events(everything, "live")
            await sender.stop()
        await events(everything, "ended")
        await events(some, "ended")
        assert [message["kind"] for message in some.history if message["type"] == "event"] == ["ended"]


async def test_who_did_not_ask_or_asks_no_more_gets_none(server: RunningServer) -> None:
    async with signalling(server.ws_url) as quiet, signalling(server.ws_url) as leaving:
        await leaving.send("subscribe_events")
        await leaving.send("unsubscribe_events")
        await leaving.send("get_available_streams")
        await leaving.expect("available_streams")
        await leaving.expect("available_streams")
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await sender.send(VOICE)
            for client in (quiet, leaving):
                await client.expect("stream_available")
        for client in (quiet, leaving):
            await client.expect("stream_ended")
            assert [message for message in client.history if message["type"] == "event"] == []


async def test_a_kind_that_does_not_exist_is_refused_and_nothing_changes(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        await client.send("subscribe_events", kinds=["ended"])
        await client.send("subscribe_events", kinds=["live", "exploded"])
        error = await client.expect("error", code="bad_message")
        assert "exploded" in error["message"]
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await sender.send(VOICE)
            await client.expect("stream_available")
        await events(client, "ended")
        assert len([message for message in client.history if message["type"] == "event"]) == 1


async def test_nobody_learns_of_a_stream_that_the_token_is_not_for() -> None:
    tokens = [
        {"token": "for-the-sender-alone", "scopes": ["send"]},
        {"token": "for-the-bedroom-only", "scopes": ["receive"], "streams": ["bedroom"]},
    ]
    async with running_server({"access": {"tokens": tokens}}) as server:
        url = f"{server.ws_url}?token="
        async with signalling(url + "for-the-bedroom-only") as client:
            await client.send("subscribe_events")
            for name in ("kitchen", "bedroom"):
                async with voice_sender(url + "for-the-sender-alone", name=name) as sender:
                    await sender.send(VOICE)
                    await sender.signalling.expect("stream_available")
            await client.expect("event", kind="ended")
            heard = {message["stream_id"] for message in client.history if "stream_id" in message}
            assert heard == {"bedroom"}


async def test_meters_of_a_named_stream_that_returns_can_be_subscribed_to_again(server: RunningServer) -> None:
    async with signalling(server.ws_url) as client:
        for _ in range(2):
            async with voice_sender(server.ws_url, name="kitchen") as sender:
                await sender.send(VOICE)
                await client.expect("stream_available")
                await client.send("subscribe_visualization", stream_id="kitchen")
                await client.expect("audio_data")
            await client.expect("stream_ended")
            client.inbox = [message for message in client.inbox if message["type"] != "audio_data"]
