"""A live name is nobody else's: claims to it, over real sockets and real peers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.availability import require_linux
from tests.support.namespaces import other_machine
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import Signalling, SignallingError, signalling
from tests.support.speaker import speaker
from tests.support.stage import until

FREE_WITHIN_S = 1.5
"""A check of the holder takes one second."""


def payloads(count: int) -> list[bytes]:
    return [os.urandom(40) for _ in range(count)]


@asynccontextmanager
async def kitchen(server: RunningServer) -> AsyncIterator[tuple[VoiceSender, VoiceReceiver]]:
    """A live stream of that name, and one who receives it."""
    async with voice_sender(server.ws_url, name="kitchen") as sender:
        await sender.send(payloads(1))
        await sender.signalling.expect("stream_available")
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            # A client is connected a moment before the server knows it.
            while not receiver.packets:
                await sender.send(payloads(1))
            yield sender, receiver


async def refusal(client: Signalling, **claim: Any) -> str:
    """The code of the error that a claim to the name gets."""
    await client.send("start_sending", name="kitchen", **claim)
    return str((await client.expect("error"))["code"])


async def is_granted(client: Signalling) -> bool:
    """The answer to its claim."""
    try:
        await client.expect("sender_ready", stream_id="kitchen")
    except SignallingError as error:
        if "name_taken" not in str(error):
            raise
        return False
    return True


def ice_password(sdp: str) -> str:
    return sdp.partition("a=ice-pwd:")[2].split()[0]


async def hear(receiver: VoiceReceiver, sender: VoiceSender, count: int = 5) -> None:
    """What it sends now arrives, all of it, and nothing else."""
    await sender.send(payloads(count))
    await all_heard(receiver, sender, count)


async def all_heard(receiver: VoiceReceiver, sender: VoiceSender, count: int) -> None:
    """The newest packets that arrived are those that were sent last."""
    await until(lambda: receiver.packets[-1].payload == sender.sent[-1], "the newest packet")
    assert receiver.packets.payloads()[-count:] == sender.sent[-count:]


async def test_a_name_in_use_is_refused_and_its_holder_goes_on(server: RunningServer) -> None:
    async with kitchen(server) as (sender, receiver), signalling(server.ws_url) as other:
        await sender.signalling.settle()
        heard = len(sender.signalling.history)
        claims: list[dict[str, Any]] = [{}, {"resume": ""}, {"resume": "A" * 22}, {"resume": sender.resume_key[:-1]}]
        assert [await refusal(other, **claim) for claim in claims] == ["name_taken"] * 4
        await hear(receiver, sender)
        await sender.signalling.settle()
        assert [message["code"] for message in sender.signalling.history[heard:]] == ["unknown_type"], (
            "more than settle's"
        )
        # It may choose another.
        await other.send("start_sending", name="cellar")
        await other.expect("sender_ready", stream_id="cellar")


async def test_a_reloaded_page_takes_its_stream_up_with_its_key_which_is_good_once(server: RunningServer) -> None:
    async with kitchen(server) as (first, receiver):
        await hear(receiver, first)
        async with voice_sender(server.ws_url, name="kitchen", resume=first.resume_key) as second:
            await first.signalling.expect("stream_ended", stream_id="kitchen", reason="replaced")
            await hear(receiver, second)
            assert second.resume_key != first.resume_key
            async with signalling(server.ws_url) as late:
                assert await refusal(late, resume=first.resume_key) == "name_taken"
            async with voice_sender(server.ws_url, name="kitchen", resume=second.resume_key) as third:
                await hear(receiver, third)
                assert len({packet.ssrc for packet in receiver.packets}) == 1
                assert [message for message in receiver.signalling.history if message["type"] == "stream_paused"] == []


async def test_a_key_is_spent_by_the_claim_before_there_is_media(server: RunningServer) -> None:
    async with kitchen(server) as (sender, _), signalling(server.ws_url) as one, signalling(server.ws_url) as other:
        await one.send("start_sending", name="kitchen", resume=sender.resume_key)
        await one.expect("sender_ready", stream_id="kitchen")
        assert await refusal(other, resume=sender.resume_key) == "name_taken"


async def test_of_two_claims_at_once_with_one_key_one_is_refused(server: RunningServer) -> None:
    """Though the first of them has a connection of its own to close before it may begin."""
    async with kitchen(server) as (sender, _), voice_sender(server.ws_url) as one, signalling(server.ws_url) as other:
        claimants = (one.signalling, other)
        for client in claimants:
            await client.send("start_sending", name="kitchen", resume=sender.resume_key)
        assert sorted([await is_granted(client) for client in claimants]) == [False, True]


async def test_a_take_over_is_logged_with_both_addresses(server: RunningServer) -> None:
    require_linux("Another address of loopback")
    async with (
        kitchen(server) as (first, receiver),
        signalling(server.ws_url, from_address="127.0.0.2") as client,
    ):
        assert await refusal(client) == "name_taken"
        second = VoiceSender(client)
        await second.start(name="kitchen", take_over=True)
        await first.signalling.expect("stream_ended", stream_id="kitchen", reason="replaced")
        await hear(receiver, second)
        await second.peer.close()
        assert any(
            "'kitchen': the sender at 127.0.0.2 takes over from that at 127.0.0.1" in line for line in server.log
        )


async def test_never_means_that_only_the_key_takes_a_stream_up() -> None:
    async with (
        running_server({"streams": {"name_taken": "never"}}) as server,
        kitchen(server) as (first, receiver),
        signalling(server.ws_url) as other,
    ):
        assert [await refusal(other, take_over=over) for over in (False, True)] == ["name_taken"] * 2
        await hear(receiver, first)
        async with voice_sender(server.ws_url, name="kitchen", resume=first.resume_key) as second:
            await hear(receiver, second)


async def test_replace_means_that_the_newest_sender_has_the_name() -> None:
    async with (
        running_server({"streams": {"name_taken": "replace"}}) as server,
        kitchen(server) as (first, receiver),
        voice_sender(server.ws_url, name="kitchen") as second,
    ):
        await first.signalling.expect("stream_ended", stream_id="kitchen", reason="replaced")
        await hear(receiver, second)


@pytest.mark.e2e
async def test_the_name_of_a_holder_that_is_gone_is_free_though_its_socket_is_open() -> None:
    """Killed behind a pulled cable, so that nobody closes its socket."""
    async with (
        other_machine() as machine,
        running_server(host=machine.here) as server,
        signalling(server.ws_url) as other,
        speaker(server.ws_url, "kitchen", namespace=machine.name, address=machine.there) as holder,
    ):
        await other.expect("stream_available", stream_id="kitchen")
        assert await refusal(other) == "name_taken"
        await machine.pull_cable()
        await holder.kill()
        begun_s = time.monotonic()
        await other.send("start_sending", name="kitchen")
        await other.expect("sender_ready", stream_id="kitchen")
        assert time.monotonic() - begun_s < FREE_WITHIN_S


async def test_keys_are_shown_nowhere() -> None:
    """Neither in the most talkative log, nor in what others are told."""
    async with (
        running_server({"server": {"log_level": "DEBUG"}}) as server,
        signalling(server.ws_url) as watcher,
        kitchen(server) as (first, _),
        voice_sender(server.ws_url, name="kitchen", resume=first.resume_key) as second,
    ):
        assert await refusal(watcher, resume="a key of one's own") == "name_taken"
        await watcher.send("get_available_streams")
        await watcher.settle()
        shown = [str(watcher.history)]
        async with aiohttp.ClientSession() as http:
            for path in ("/metrics", "/metrics?details=1", "/health", "/stream/status"):
                urls = [server.url(path), server.audio_url(path)]
                for url in urls:
                    for accepted in ("application/json", "text/plain"):
                        async with http.get(url, headers={"Accept": accepted}) as answer:
                            shown.append(await answer.text())
        shown += server.log
        for key in (first.resume_key, second.resume_key, "a key of one's own"):
            assert len(key) > 16
            assert not [text for text in shown if key in text]


async def test_a_renegotiation_loses_no_packet_and_a_new_connection_goes_on(server: RunningServer) -> None:
    async with kitchen(server) as (sender, receiver):
        talking = asyncio.create_task(sender.send(payloads(60)))
        for _ in range(3):
            await sender.renegotiate()
        await talking
        await all_heard(receiver, sender, 60)
        former = sender.peer
        sender.replace_peer()
        await sender.connect(await sender.describe())
        await hear(receiver, sender)
        await former.close()
        await hear(receiver, sender)
        assert len({packet.ssrc for packet in receiver.packets}) == 1
        messages = {message["type"] for message in receiver.signalling.history}
        assert not messages & {"stream_paused", "stream_ended"}


async def test_a_connection_goes_on_over_another_socket_with_the_key(server: RunningServer) -> None:
    """As a phone does whose network has changed; nobody but the client that lost its socket can."""
    async with kitchen(server) as (sender, receiver), signalling(server.ws_url) as other:
        former = sender.signalling
        talking = asyncio.create_task(sender.send(payloads(60)))
        await other.send("start_sending", name="kitchen", resume=sender.resume_key)
        await other.expect("sender_ready")
        sender.signalling = other
        await sender.renegotiate()
        await former.expect("stream_ended", reason="replaced")
        await former.close()
        await talking
        await all_heard(receiver, sender, 60)
        assert [message for message in receiver.signalling.history if message["type"] == "stream_paused"] == []
        await sender.stop()
        await receiver.signalling.expect("stream_ended", stream_id="kitchen", reason="sender left")


async def test_a_connection_is_not_handed_to_who_takes_the_name_over(server: RunningServer) -> None:
    async with kitchen(server) as (sender, receiver), signalling(server.ws_url) as other:
        await other.send("start_sending", name="kitchen", take_over=True)
        await other.expect("sender_ready")
        await other.send("webrtc_offer", offer={"type": "offer", "sdp": sender.peer.localDescription.sdp})
        answer = (await other.expect("webrtc_answer"))["answer"]["sdp"]
        assert ice_password(answer) != ice_password(sender.answer_sdp)
        await hear(receiver, sender)
