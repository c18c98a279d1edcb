"""The handlers of everything that comes from a network, as functions of bytes.

Each target does with its input what the server does with it. It raises where the server would fail, and where it would
log an error: both are defects.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.support.descriptions import browser_sdp
from voice_streaming.media.pcm import PcmBlock
from voice_streaming.process.refusal import Refused
from voice_streaming.rtc import ReceiverPeer, SenderPeer, sdp
from voice_streaming.rtc.shared_socket import MAX_DATAGRAM_BYTES, is_media
from voice_streaming.settings.model import ServerSettings, Settings, WebrtcSettings
from voice_streaming.signalling.client import Client
from voice_streaming.signalling.outbox import Outbox
from webrtc_server_relay import VoiceStreamingServer

CORPUS = Path(__file__).parent / "corpus"
_PAYLOAD_TYPE = 111
_MOST_MESSAGES = 4
_MOST_HEADERS = 8
_SDP = {"Content-Type": "application/sdp"}
_FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
_HEADER = re.compile(r"(If-Match|Authorization|Stream-Resume-Key|Origin|Content-Type|X-Forwarded-For):[ -~]*")
_STRANGER = ("127.0.0.1", 9)


class Deaf:
    """Stands in for an `Outbox`: what the server says leaves no trace."""

    overflowed = False

    def send(self, text: str) -> None:
        text.encode()

    def send_latest(self, topic: str, text: str) -> None:
        text.encode()

    def end(self) -> None:
        """Nothing is queued."""


class _Listener:
    def on_pcm(self, block: PcmBlock) -> None:
        """Only decoding matters."""

    def on_end(self) -> None:
        """The track goes on for as long as the process."""


class _NoErrors(logging.Handler):
    """Makes a failure of what is only logged."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


class Targets:
    """A server without open ports, with one live stream, a sender and a receiver that know each other's keys."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._log = _NoErrors(logging.ERROR)
        logging.getLogger().addHandler(self._log)
        self._run(self._set_up())

    def by_name(self) -> dict[str, Callable[[bytes], None]]:
        return {
            "signalling": self.signalling,
            "offer": self.offer,
            "whip": self.whip,
            "fragment": self.fragment,
            "rtp": self.rtp,
            "rtcp": self.rtcp,
            "stun": self.stun,
            "datagram": self.datagram,
        }

    def close(self) -> None:
        logging.getLogger().removeHandler(self._log)
        self._run(self._tear_down())
        self._loop.close()

    def signalling(self, data: bytes) -> None:
        """Up to four lines, each a message of one client, which then leaves."""
        lines = data.decode(errors="replace").split("\n")[:_MOST_MESSAGES]
        self._run(self._converse(lines))

    def offer(self, data: bytes) -> None:
        """A session description, as answer and as a sender's offer; and a candidate."""
        text = data.decode(errors="replace")
        for take in (sdp.take_answer, sdp.take_candidate):
            with suppress(Refused):
                take(text)
        self._run(self._answer(text))

    def whip(self, data: bytes) -> None:
        """A request to publish or to play: a line for the path, some for headers, an empty one, and the body."""
        self._run(self._request("POST", data))

    def fragment(self, data: bytes) -> None:
        """A fragment for a session that is there, after headers as for `whip`."""
        self._run(self._request("PATCH", data))

    def rtp(self, data: bytes) -> None:
        """A packet as SRTP gives it, relayed and decoded."""
        self._run(self._in_loop(lambda: self._sender._on_rtp(memoryview(data), self._loop.time()), turns=3))

    def rtcp(self, data: bytes) -> None:
        for peer in (self._sender, self._receiver):
            self._run(self._in_loop(functools.partial(peer._on_rtcp, data)))

    def stun(self, data: bytes) -> None:
        """A STUN message for a peer, whatever user it names."""
        port = cast(Any, self._sender._ice.connection._protocols[0])
        self._run(self._in_loop(lambda: port._on_stun(data, _STRANGER)))

    def datagram(self, data: bytes) -> None:
        """Whatever comes to the socket, from a stranger and from the address of a peer."""
        port = cast(Any, self._sender._ice.connection._protocols[0])
        data = data[:MAX_DATAGRAM_BYTES]

        def deliver() -> None:
            incoming = port.shared._incoming
            incoming.memory[: len(data)] = data
            incoming.hold(len(data), self._loop.time())
            port.shared._dispatch(incoming, _STRANGER)
            if is_media(data):
                port.on_media(incoming)
            else:
                port.on_datagram(data, _STRANGER)

        self._run(self._in_loop(deliver))

    async def _set_up(self) -> None:
        settings = Settings(
            server=ServerSettings(host="127.0.0.1", tls="off"), webrtc=WebrtcSettings(host_addresses=("127.0.0.1",))
        )
        self._server = VoiceStreamingServer(settings)
        stream = self._server.streams.create("live", "live", "nobody", permanent=True)
        stream.track.take_source().publish(1, 1, 960, True, b"\xf8\xff\xfe", self._loop.time())
        self._listener = _Listener()
        self._pcm = self._server.relay.pcm(stream.track)
        self._pcm.attach(self._listener)
        self._sender: SenderPeer = self._server.peers.sender(stream.track)
        await self._sender.answer(browser_sdp("chromium_audio"))
        self._sender._payload_type = _PAYLOAD_TYPE
        self._sender._start_media()
        application = self._server.admission.application()
        application.add_routes(self._server.whip.routes())
        self._web = TestServer(application, host="127.0.0.1")
        await self._web.start_server()
        self._http = TestClient(self._web)
        created = await self._http.post("/whip/kitchen", data=browser_sdp("chromium_audio"), headers=_SDP)
        self._session = created.headers["Location"]
        self._receiver: ReceiverPeer = self._server.peers.receiver(stream.track)
        await self._receiver.offer()

    async def _tear_down(self) -> None:
        await self._http.close()
        await self._sender.close()
        await self._receiver.close()
        await self._server.stop()
        # The sender was never answered by a client, and still waits for one.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _converse(self, lines: list[str]) -> None:
        client = Client(cast(Outbox, Deaf()))
        self._server.connections[client.id] = client
        try:
            for line in lines:
                await self._server.handle_message(client, line)
        finally:
            await self._server.signalling.clean_up(client, left=True)

    async def _answer(self, text: str) -> None:
        peer = self._server.peers.sender(self._sender.track)
        try:
            with suppress(Refused):
                await peer.answer(text)
        finally:
            await peer.close()

    async def _request(self, method: str, data: bytes) -> None:
        head, _, body = data.partition(b"\n\n")
        first, *lines = head.decode(errors="replace").split("\n")[:_MOST_HEADERS]
        headers = _SDP if method == "POST" else _FRAGMENT
        headers = headers | dict(line.split(":", 1) for line in lines if _HEADER.fullmatch(line))
        path = f"/{'whep' if first.startswith('whep') else 'whip'}/{quote(first[5:], safe='')}"
        url = URL(path if method == "POST" else self._session, encoded=True)
        async with self._http.request(method, url, data=body, headers=headers) as answer:
            assert answer.status < HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.SERVICE_UNAVAILABLE
            location = answer.headers.get("Location")
        if location is not None:
            async with self._http.delete(location):
                pass

    async def _in_loop(self, call: Callable[[], object], turns: int = 0) -> None:
        call()
        for _ in range(turns):
            await asyncio.sleep(0)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)
