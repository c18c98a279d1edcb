"""Subscribing without any transport for descriptions, in either direction of the exchange."""

from __future__ import annotations

import pytest

from tests.sessions.core import Told, asks_to_receive, core
from tests.support.rtc_client import wait_until_connected
from tests.support.stage import PAYLOADS, Client, until
from voice_streaming.process.refusal import Refused
from voice_streaming.sessions.states import ConnectionState
from voice_streaming.sessions.subscribe_session import SubscribeSession
from voice_streaming.streams.relay import FirstPacket


async def test_a_subscriber_that_answers_and_one_that_offers_hear_alike() -> None:
    async with core() as server:
        _, sender = await server.published()
        listeners = []
        for subscribes in (subscribe_by_our_offer, subscribe_by_their_offer):
            connection, client = Told(), server.client()
            session = await server.sessions.subscribe(connection, None)
            assert session is not None
            await subscribes(session, client)
            await wait_until_connected(client.peer)
            await until(lambda c=connection: c.state is ConnectionState.CONNECTED, "it is connected")  # type: ignore[misc]
            listeners.append((connection, client))
        assert server.streams.live("kitchen").receivers == {connection.id for connection, _ in listeners}
        for payload in PAYLOADS[1:]:
            sender.say(payload)
        for connection, client in listeners:
            await client.packets.wait_for(len(PAYLOADS) - 1)
            assert client.packets.payloads() == PAYLOADS[1:]
            assert (connection.state, connection.stream_id) == (ConnectionState.STREAMING, "kitchen")


async def subscribe_by_our_offer(session: SubscribeSession, client: Client) -> None:
    offer = await session.offer()
    assert offer is not None
    await session.accept(await client.answer(offer))


async def subscribe_by_their_offer(session: SubscribeSession, client: Client) -> None:
    answer = await session.answer(await asks_to_receive(client))
    assert "a=sendonly" in answer
    await client.take_answer(answer)


async def test_two_quick_requests_are_one_and_none_is_resolved_once() -> None:
    async with core() as server:
        await server.published("kitchen")
        connection = Told()
        session = await server.sessions.subscribe(connection, None)
        assert session is not None
        await session.offer()
        await server.published("hall")
        assert await server.sessions.subscribe(connection, "kitchen") is None
        assert connection.session is session
        assert session.stream_id == "kitchen"


@pytest.mark.parametrize(("stream_id", "code"), [(None, "no_stream"), ("nowhere", "no_stream")])
async def test_what_is_not_there_cannot_be_received(stream_id: str | None, code: str) -> None:
    async with core() as server:
        with pytest.raises(Refused) as refused:
            await server.sessions.subscribe(Told(), stream_id)
        assert refused.value.code == code


async def test_subscribers_of_a_silent_stream_leave_nothing_behind() -> None:
    async with core() as server:
        await server.published()
        track = server.streams.live("kitchen").track
        for _ in range(2):
            connection, client = Told(), server.client()
            session = await server.sessions.subscribe_anew(connection, "kitchen")
            await subscribe_by_our_offer(session, client)
            await until(lambda c=connection: c.state is ConnectionState.CONNECTED, "it is connected")  # type: ignore[misc]
            await session.release("left")
        assert [sink for sink in track._sinks if isinstance(sink, FirstPacket)] == []


async def test_a_stream_that_ends_ends_its_subscribers() -> None:
    async with core() as server:
        publisher, _ = await server.published()
        connection, client = Told(), server.client()
        session = await server.sessions.subscribe(connection, "kitchen")
        assert session is not None
        await subscribe_by_our_offer(session, client)
        assert publisher.session is not None
        publisher.session.end("sender left")
        assert (connection.session, connection.state, connection.sessions_ended) == (None, ConnectionState.CREATED, 1)
        assert session.has_ended
        with pytest.raises(Refused) as refused:
            await server.sessions.subscribe(connection, "kitchen")
        assert refused.value.code == "stream_ended"
