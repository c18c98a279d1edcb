"""The core of a server, and clients of it, without any transport for descriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.rtc_client import gather_on_loopback, record_packets, wait_until_connected
from tests.support.stage import PAYLOADS, Client, until
from voice_streaming.process.tasks import Tasks
from voice_streaming.rtc import Peers
from voice_streaming.sessions.claim import Claim
from voice_streaming.sessions.connection import Connection
from voice_streaming.sessions.session import Services
from voice_streaming.sessions.sessions import Sessions
from voice_streaming.settings.model import Settings, WebrtcSettings
from voice_streaming.streams.registry import StreamObserver, Streams
from voice_streaming.streams.relay import VoiceRelay
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
