"""Publishing and subscribing without any transport for descriptions, in either direction of the exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.support.rtc_client import gather_on_loopback, record_packets, wait_until_connected
from tests.support.stage import PAYLOADS, Client, until
from voice_streaming.process.refusal import Refused
from voice_streaming.process.tasks import Tasks
from voice_streaming.rtc import Peers
from voice_streaming.sessions.claim import Claim
from voice_streaming.sessions.connection import Connection
from voice_streaming.sessions.publish_session import PublishSession
from voice_streaming.sessions.session import Services
from voice_streaming.sessions.sessions import Sessions
from voice_streaming.sessions.states import ConnectionState, Role
from voice_streaming.sessions.subscribe_session import SubscribeSession
from voice_streaming.settings.model import Settings, WebrtcSettings
from voice_streaming.streams.registry import StreamObserver, Streams
from voice_streaming.streams.relay import FirstPacket, VoiceRelay
from voice_streaming.streams.stream import Stream, live_streams

SETTINGS = Settings(webrtc=WebrtcSettings(host_addresses=("127.0.0.1",), resume_grace_s=0.5))


class Told(Connection):
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        super().__init__(address="127.0.0.1", via="test")
        self.lost: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.sessions_ended = 0

    def on_session_ended(self) -> None:
        self.sessions_ended += 1

    def on_media_lost(self, reason: str) -> None:
        self.lost.append(reason)

    def on_stream_ended(self, stream_id: str, reason: str) -> None:
        self.ended.append((stream_id, reason))


class History(StreamObserver):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_stream_live(self, stream: Stream) -> None:
        self.events.append("live")

    def on_stream_paused(self, stream: Stream) -> None:
        self.events.append("paused")

    def on_stream_resumed(self, stream: Stream) -> None:
        self.events.append("resumed")

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self.events.append(f"ended: {reason}")


class Core:
    """The core of a server: registry, peers and sessions."""

    def __init__(self, settings: Settings) -> None:
        self.relay = VoiceRelay()
        self.streams = Streams(self.relay, settings.webrtc.resume_grace_s)
        self.peers = Peers(settings.webrtc, self.relay)
        self.tasks = Tasks()
        self.sessions = Sessions(Services(self.relay, self.streams, self.peers, self.tasks, settings))
        self.history = History()
        self.streams.observe(self.history)
        self.streams.observe(self.sessions)
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client())
        return self.clients[-1]

    async def published(self, name: str | None = "kitchen") -> tuple[Told, Client]:
        """A stream that is live."""
        connection, client = Told(), self.client()
        session = await self.sessions.publish(connection, Claim(name))
        await client.take_answer(await session.answer(await client.offer()))
        await wait_until_connected(client.peer)
        client.say(PAYLOADS[0])
        await until(lambda: session.stream_id in [s.id for s in live_streams(self.streams.active)], "it is live")
        return connection, client

    async def close(self) -> None:
        for session in list(self.sessions.active.values()):
            await session.release("server stopping")
        for stream in list(self.streams.active.values()):
            self.streams.end(stream, "server stopping")
        await asyncio.gather(*(client.peer.close() for client in self.clients))
        await self.tasks.cancel()
        self.peers.close()


@asynccontextmanager
async def core(settings: Settings = SETTINGS) -> AsyncIterator[Core]:
    one = Core(settings)
    try:
        yield one
    finally:
        await one.close()


async def asks_to_receive(client: Client) -> str:
    """The offer of a player."""
    client.peer.addTransceiver("audio", direction="recvonly")
    gather_on_loopback(client.peer)
    await client.peer.setLocalDescription(await client.peer.createOffer())
    record_packets(client.peer.getTransceivers()[0].receiver, client.packets)
    return str(client.peer.localDescription.sdp)


async def answers_with_a_voice(client: Client, offer: str) -> str:
    """The answer of a client that was asked to send."""
    client.peer.addTrack(client.voice)
    return await client.answer(offer)


# Publishing


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


# Subscribing


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
