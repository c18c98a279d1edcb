"""A running AudioStreamServer, and streams that speak into it in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Any

import msgspec

from audio_stream_server import AudioStreamServer
from tests.support.ports import free_port
from tests.support.radio import PACKET_S
from voice_streaming.settings.model import AccessSettings, AudioSettings, ServerSettings, Settings
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.source import Source
from voice_streaming.streams.stream import Stream


class Radio:
    """A running AudioStreamServer, and streams that speak into it in real time."""

    def __init__(self, settings: Settings, payloads: Sequence[bytes]) -> None:
        relay = VoiceRelay()
        self.registry = Streams(relay, settings.webrtc.resume_grace_s)
        self.streams = self.registry.active
        self.server = AudioStreamServer(settings, relay, self.registry)
        self.port = settings.audio.port
        self._payloads = payloads
        self._speaking: dict[str, asyncio.Task[None]] = {}

    def speak(self, stream_id: str = "kitchen", name: str = "kitchen") -> Stream:
        """A stream goes live, with its first packet, and says the same over and over."""
        stream = self.registry.create(stream_id, name, "sender")
        begun_s = asyncio.get_running_loop().time()
        source = stream.track.take_source()
        self._publish(source, 0, self._payloads[0])
        self._speaking[stream_id] = asyncio.create_task(self._go_on(source, begun_s))
        return stream

    def end(self, stream: Stream) -> None:
        self._speaking.pop(stream.id).cancel()
        self.registry.end(stream, "sender left")

    async def listeners_become(self, count: int, *, timeout_s: float = 5) -> None:
        async with asyncio.timeout(timeout_s):
            while self.server.listeners != count:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for task in self._speaking.values():
            task.cancel()
        await self.server.stop()

    async def _go_on(self, source: Source, begun_s: float) -> None:
        for index, payload in enumerate(islice(cycle(self._payloads), 1, None), 1):
            await asyncio.sleep(begun_s + index * PACKET_S - asyncio.get_running_loop().time())
            self._publish(source, index, payload)

    def _publish(self, source: Source, index: int, payload: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        source.publish(1, index & 0xFFFF, index * 960, index == 0, payload, now_s)


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
