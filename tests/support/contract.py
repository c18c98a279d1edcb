"""What the tests of aiortc's and aioice's private names share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from aioice.ice import Connection as IceConnection
from aiortc import RTCRtpSender, RTCRtpTransceiver, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCDtlsTransport

from tests.support.rtc_client import gather_on_loopback, new_peer, wait_until_connected

INSTALLED = f"aiortc {version('aiortc')}, aioice {version('aioice')}"


def changed(what: str, where: str) -> str:
    return f"voice_streaming/rtc/{where} relies on this: {what}. See what became of it in {INSTALLED}."


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


class Pair:
    """Two peer connections of aiortc on loopback: one that offers to send, one that answers."""

    def __init__(self) -> None:
        self.offering, self.answering = new_peer(), new_peer()
        self.sending: RTCRtpTransceiver = self.offering.addTransceiver("audio", direction="sendonly")
        opus = [c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus"]
        self.sending.setCodecPreferences(opus)
        self.sender_calls: list[tuple[Any, ...]] = []
        self.receiver_calls: list[tuple[Any, ...]] = []
        self.sending.sender.send = self._record(self.sender_calls)  # type: ignore[method-assign, assignment]
        self.sending.receiver.receive = self._record(self.receiver_calls)  # type: ignore[method-assign, assignment]
        self.dtls: RTCDtlsTransport = self.sending.receiver.transport
        self.ice: IceConnection = self.dtls.transport._connection

    def _record(self, calls: list[tuple[Any, ...]]) -> Callable[..., Awaitable[None]]:
        async def record(*arguments: Any, **named: Any) -> None:
            calls.append((*arguments, *named.items()))

        return record

    async def connect(self, change_answer: Callable[[str], str] = lambda sdp: sdp) -> None:
        gather_on_loopback(self.offering)
        await self.offering.setLocalDescription(await self.offering.createOffer())
        await self.answering.setRemoteDescription(self.offering.localDescription)
        gather_on_loopback(self.answering)
        await self.answering.setLocalDescription(await self.answering.createAnswer())
        answer = change_answer(self.answering.localDescription.sdp)
        await self.offering.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await wait_until_connected(self.offering)
        # `send` and `receive` are awaited right behind the change of state.
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    both = Pair()
    try:
        yield both
    finally:
        await asyncio.gather(both.offering.close(), both.answering.close())
