"""A running AudioStreamServer, and streams that speak into it in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import msgspec

from audio_stream_server import AudioStreamServer
from tests.support.ports import free_port
from tests.support.radio import PACKET_S, packets_of
from voice_streaming.settings.model import AccessSettings, AudioSettings, ServerSettings, Settings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState
from voice_streaming.streams.track import OpusTrack


class Radio:
    """A running AudioStreamServer, and streams that speak into it in real time."""

    def __init__(self, settings: Settings, payloads: Sequence[bytes]) -> None:
        self.streams: dict[str, Stream] = {}
        self.server = AudioStreamServer(settings, VoiceRelay(), self.streams)
        self.port = settings.audio.port
        self._payloads = payloads
        self._speaking: dict[str, asyncio.Task[None]] = {}

    def speak(self, stream_id: str = "kitchen", name: str = "kitchen") -> Stream:
        """A stream goes live and says the same over and over."""
        stream = Stream(stream_id, name, OpusTrack(), "sender")
        self.streams[stream_id] = stream
        stream.advance(StreamState.ACTIVE)
        self._speaking[stream_id] = asyncio.create_task(self._publish(stream.track))
        self.server.stream_started(stream)
        return stream

    def end(self, stream: Stream) -> None:
        """As the main server does it."""
        self._speaking.pop(stream.id).cancel()
        stream.advance(StreamState.ENDED)
        stream.track.stop()
        self.server.stream_ended(stream)
        stream.advance(StreamState.REMOVED)
        del self.streams[stream.id]

    async def listeners_become(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.server.listeners != count:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for task in self._speaking.values():
            task.cancel()
        await self.server.stop()

    async def _publish(self, track: OpusTrack) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for index, payload in enumerate(cycle(self._payloads)):
            await asyncio.sleep(begun_s + index * PACKET_S - loop.time())
            packet = packets_of([payload], sequence=index, timestamp=index * 960)[0]
            track.publish(packet._replace(arrived_s=loop.time()))


@asynccontextmanager
async def radio_with(
    payloads: Sequence[bytes], access: AccessSettings | None = None, **audio: Any
) -> AsyncIterator[Radio]:
    settings = Settings(
        server=ServerSettings(host="127.0.0.1"),
        audio=msgspec.structs.replace(AudioSettings(port=free_port()), **audio),
        access=access or AccessSettings(),
    )
    radio = Radio(settings, payloads)
    await radio.server.start()
    try:
        yield radio
    finally:
        await radio.stop()
