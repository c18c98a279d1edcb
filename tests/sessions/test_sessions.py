"""Publishing without any transport for descriptions, in either direction of the exchange."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.sessions.core import SETTINGS, Told, answers_with_a_voice, core
from tests.support.rtc_client import wait_until_connected
from tests.support.stage import PAYLOADS, Client, until
from voice_streaming.process.refusal import Refused
from voice_streaming.sessions.claim import Claim
from voice_streaming.sessions.publish_session import PublishSession
from voice_streaming.sessions.states import ConnectionState, Role


async def test_a_publisher_that_offers_and_one_that_answers_are_heard_alike() -> None:
    async with core() as server:
        for name, publishes in (("offers", publish_by_their_offer), ("answers", publish_by_our_offer)):
            connection, client = Told(), server.client()
            session = await server.sessions.publish(connection, Claim(name))
            await publishes(session, client)
            await wait_until_connected(client.peer)
            await until(lambda c=connection: c.state is ConnectionState.CONNECTED, "it is connected")  # type: ignore[misc]
            client.say(PAYLOADS[0])
            await until(lambda c=connection: c.state is ConnectionState.STREAMING, "it streams")  # type: ignore[misc]
            stream = server.streams.live(name)
            assert (stream.sender_id, stream.via, connection.role) == (connection.id, "test", Role.SENDER)
            assert stream.track.payload_bytes == len(PAYLOADS[0])


async def publish_by_their_offer(session: PublishSession, client: Client) -> None:
    await client.take_answer(await session.answer(await client.offer()))


async def publish_by_our_offer(session: PublishSession, client: Client) -> None:
    offer = await session.offer()
    assert "a=recvonly" in offer
    await session.accept(await answers_with_a_voice(client, offer))


async def test_an_answer_to_nothing_is_refused() -> None:
    async with core() as server:
        session = await server.sessions.publish(Told(), Claim("kitchen"))
        with pytest.raises(Refused, match="no offer"):
            await session.accept("v=0\r\n")


async def test_a_bad_offer_leaves_nothing_behind() -> None:
    async with core() as server:
        connection = Told()
        session = await server.sessions.publish(connection, Claim("kitchen"))
        with pytest.raises(Refused):
            await session.answer("v=0\r\n")
        assert server.streams.active == {}
        assert (connection.pc, connection.role) == (None, Role.SENDER)


async def test_a_further_offer_of_the_same_connection_goes_on_with_it() -> None:
    async with core() as server:
        connection, client = await server.published()
        assert isinstance(connection.session, PublishSession)
        before = connection.pc
        await client.peer.setLocalDescription(await client.peer.createOffer())
        await client.take_answer(await connection.session.answer(client.peer.localDescription.sdp))
        assert connection.pc is before
        client.say(PAYLOADS[1])
        await until(lambda: server.streams.live("kitchen").track.packets == 2, "the next packet comes the same way")
        assert server.history.events == ["live"]


async def test_another_connection_replaces_the_one_before_it() -> None:
    async with core() as server:
        connection, first = await server.published()
        assert isinstance(connection.session, PublishSession)
        before, second = connection.pc, server.client()
        await second.take_answer(await connection.session.answer(await second.offer()))
        assert connection.pc is not before
        await wait_until_connected(second.peer)
        second.say(PAYLOADS[1])
        await until(lambda: server.streams.live("kitchen").track.packets == 2, "its packet is published")
        assert server.history.events == ["live"]
        await until(lambda: first.peer.connectionState == "closed", "the first one was told goodbye")


async def test_a_session_that_ends_while_the_former_peer_closes_has_no_answer() -> None:
    async with core() as server:
        connection, _ = await server.published()
        session = connection.session
        assert isinstance(session, PublishSession)
        assert session.peer is not None
        former, close = session.peer, session.peer.close

        async def close_and_end() -> None:
            await close()
            session.end("server failed")

        former.close = close_and_end  # type: ignore[method-assign]
        with pytest.raises(Refused) as refused:
            await session.answer(await server.client().offer())
        assert refused.value.code == "stream_ended"


async def test_a_lost_publisher_with_a_name_resumes_within_the_grace_and_one_without_ends() -> None:
    async with core() as server:
        for name, events in (("kitchen", ["live", "paused", "resumed"]), (None, ["live", "ended: sender lost"])):
            server.history.events.clear()
            connection, _ = await server.published(name)
            session = connection.session
            assert isinstance(session, PublishSession)
            assert session.peer is not None
            session.peer._lose("does not answer any more")
            assert connection.lost == ["does not answer any more"]
            if name is not None:
                again = server.client()
                await again.take_answer(await session.answer(await again.offer()))
                await wait_until_connected(again.peer)
                again.say(PAYLOADS[1])
                await until(lambda: "resumed" in server.history.events, "the stream goes on")
            assert server.history.events == events


async def test_a_publisher_that_is_back_within_the_grace_keeps_its_stream_though_it_says_nothing_yet() -> None:
    async with core() as server:
        connection, _ = await server.published()
        session = connection.session
        assert isinstance(session, PublishSession)
        assert session.peer is not None
        session.peer._lose("does not answer any more")
        again = server.client()
        await again.take_answer(await session.answer(await again.offer()))
        await until(lambda: connection.state is ConnectionState.CONNECTED, "it is connected again")
        await asyncio.sleep(2 * SETTINGS.webrtc.resume_grace_s)
        assert server.history.events == ["live", "paused"]
        again.say(PAYLOADS[1])
        await until(lambda: server.history.events == ["live", "paused", "resumed"], "the stream goes on")


async def test_the_grace_runs_out() -> None:
    async with core() as server:
        connection, _ = await server.published()
        assert connection.session is not None
        await connection.session.release("sender lost", may_resume=True)
        await until(lambda: server.streams.active == {}, "the stream ends")
        assert server.history.events == ["live", "paused", "ended: sender lost"]
        assert connection.sessions_ended == 1


async def test_the_key_takes_a_stream_up_from_another_connection_once() -> None:
    async with core() as server:
        connection, _ = await server.published()
        assert isinstance(connection.session, PublishSession)
        key = connection.session.resume_key
        with pytest.raises(Refused, match="in use"):
            await server.sessions.publish(Told(), Claim("kitchen"))
        other, client = Told(), server.client()
        session = await server.sessions.publish(other, Claim("kitchen", resume=key))
        assert session.resume_key != key
        with pytest.raises(Refused, match="in use"):
            await server.sessions.publish(Told(), Claim("kitchen", resume=key))
        await client.take_answer(await session.answer(await client.offer()))
        await until(lambda: connection.ended == [("kitchen", "replaced")], "the former one is told")
        assert server.streams.live("kitchen").sender_id == other.id
        assert server.history.events == ["live"]


async def test_a_holder_that_is_gone_without_a_word_holds_nothing() -> None:
    async with core() as server:
        _, client = await server.published()
        # Its socket is closed, and nothing that comes for it is read.
        client.dtls.transport._connection._nominated[1].protocol.transport.abort()
        begun_s = asyncio.get_running_loop().time()
        await server.sessions.publish(Told(), Claim("kitchen"))
        assert asyncio.get_running_loop().time() - begun_s < 3


@pytest.mark.parametrize(("policy", "is_taken"), [("refuse", True), ("replace", True), ("never", False)])
async def test_take_over_is_as_the_setting_has_it(policy: str, is_taken: bool) -> None:
    streams = msgspec.convert({"name_taken": policy}, type(SETTINGS.streams))
    async with core(msgspec.structs.replace(SETTINGS, streams=streams)) as server:
        await server.published()
        claim = Claim("kitchen", take_over=True)
        if is_taken:
            await server.sessions.publish(Told(), claim)
        else:
            with pytest.raises(Refused, match=r"choose another name$"):
                await server.sessions.publish(Told(), claim)


async def test_a_name_that_was_free_is_not_taken_from_who_began_it_meanwhile() -> None:
    async with core() as server:
        early = await server.sessions.publish(Told(), Claim("kitchen"))
        entitled = await server.sessions.publish(Told(), Claim("Kitchen", take_over=True))
        holder, talker = await server.published()
        with pytest.raises(Refused, match="in use by another sender"):
            await early.answer(await server.client().offer())
        talker.say(PAYLOADS[1])
        await until(lambda: server.streams.live("kitchen").track.packets == 2, "the holder is heard")
        assert server.streams.live("kitchen").sender_id == holder.id
        client = server.client()
        await client.take_answer(await entitled.answer(await client.offer()))
        await until(lambda: holder.ended == [("kitchen", "replaced")], "who may take it over does")


async def test_a_publisher_that_never_sent_anything_is_told_when_its_stream_ends() -> None:
    async with core() as server:
        connection, client = Told(), server.client()
        session = await server.sessions.publish(connection, Claim("kitchen"))
        await client.take_answer(await session.answer(await client.offer()))
        await until(lambda: connection.state is ConnectionState.CONNECTED, "it is connected")
        server.streams.end_stale(idle_timeout_s=0)
        assert connection.ended == [("kitchen", "idle")]
        assert (connection.session, server.streams.active, server.history.events) == (None, {}, [])
