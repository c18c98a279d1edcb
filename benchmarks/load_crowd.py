"""The process of those who do not behave: they come, go, stall, vanish, lose packets and talk nonsense, at random.

All chance comes from one seed. What they meet is counted, not judged: the server may refuse any of it.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from multiprocessing.connection import Connection

import aiohttp
import pylibsrtp
import signalling
from light_peer import Identity, LightPeer
from light_sdp import OPUS_PAYLOAD_TYPE, Local
from load_process import serve_commands, settle
from load_sender import connect
from marked_opus import PACKET_S, SAMPLES_PER_PACKET, encode_loop

_LONGEST_STAY_S = 10.0
_LONGEST_PAUSE_S = 2.0
_NAMES = ("guest 1", "guest 2", "guest 3", "guest 4")
_PATHS = ("/", "/health", "/metrics", "/sender", "/static/../../etc/passwd", "/stream/%2e%2e.mp3", "/nothing", "/ws")
_LOSS_SHARES = (0.0, 0.0, 0.01, 0.05, 0.2)


@dataclass(frozen=True)
class LetLoose:
    """Let that many act for so long, by chance from that seed. Reply: Counter of what they did and met."""

    actors: int
    seconds: float
    seed: str


class _Crowd:
    def __init__(self, port: int, audio_port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._audio_url = f"http://127.0.0.1:{audio_port}"
        self._port = port
        self._identity = Identity()
        self._packets = encode_loop()
        self._met: Counter[str] = Counter()
        self._media_ports: set[int] = set()

    async def answer(self, command: object) -> object:
        match command:
            case LetLoose(actors, seconds, seed):
                self._met = Counter()
                end_s = time.monotonic() + seconds
                async with signalling.open_client() as self._client:
                    await asyncio.gather(
                        *(self._act(random.Random(f"{seed} {number}"), end_s) for number in range(actors))
                    )
                return self._met
        raise TypeError(f"unknown command {command}")

    async def _act(self, chance: random.Random, end_s: float) -> None:
        acts: list[Callable[[random.Random], Awaitable[None]]] = [
            *[self._receive] * 4,
            *[self._speak] * 3,
            *[self._listen] * 2,
            self._talk_nonsense,
            self._ask_and_never_read,
            self._send_datagrams,
            self._browse,
        ]
        while time.monotonic() < end_s:
            act = chance.choice(acts)
            self._met[act.__name__.strip("_")] += 1
            try:
                async with asyncio.timeout(_LONGEST_STAY_S + 30):
                    await act(chance)
            except (signalling.RefusedError, aiohttp.ClientError, OSError, ValueError, pylibsrtp.Error) as error:
                self._met[f"{act.__name__.strip('_')}: {type(error).__name__}"] += 1
            await asyncio.sleep(chance.uniform(0, _LONGEST_PAUSE_S))

    async def _receive(self, chance: random.Random) -> None:
        """A receiver of the newest stream that stays a while, reads what it gets or not, and leaves in some way."""
        session = await signalling.receive(self._client, f"{self._url}/ws", self._identity, None)
        await self._present(session, chance, lambda peer: self._stay(peer, chance))

    async def _speak(self, chance: random.Random) -> None:
        """A sender whose packets get lost, doubled and swapped, or are no Opus, or no RTP at all."""
        session = await signalling.send(self._client, f"{self._url}/ws", self._identity, chance.choice(_NAMES))
        await self._present(session, chance, lambda peer: self._say(peer, chance))

    async def _say(self, peer: LightPeer, chance: random.Random) -> None:
        loss = chance.choice(_LOSS_SHARES)
        is_poisoner = chance.random() < 0.3
        held = b""
        due_s = time.monotonic()
        for number in range(int(chance.uniform(0, _LONGEST_STAY_S) / PACKET_S)):
            timestamp = number * SAMPLES_PER_PACKET
            header = struct.pack("!BBHII", 0x80, OPUS_PAYLOAD_TYPE, number & 0xFFFF, timestamp, peer.local.ssrc)
            payload = self._packets[number % len(self._packets)]
            if is_poisoner and chance.random() < 0.2:
                header, payload = self._poisoned(header, payload, chance)
            try:
                datagram = peer.protect(header + payload)
            except pylibsrtp.Error:
                # So broken that it cannot even be encrypted: then as it is.
                datagram = header + payload
            if chance.random() < 0.02:
                held, datagram = datagram, held
            for _ in range(2 if chance.random() < 0.02 else 1):
                if datagram and chance.random() >= loss:
                    peer.send(datagram)
            peer.tick(time.monotonic())
            due_s += PACKET_S
            await asyncio.sleep(due_s - time.monotonic())

    def _poisoned(self, header: bytes, payload: bytes, chance: random.Random) -> tuple[bytes, bytes]:
        kind = chance.randrange(5)
        self._met[f"poison {kind}"] += 1
        if kind == 0:
            return header, b""
        if kind == 1:
            return header, chance.randbytes(chance.randrange(1, 1200))
        if kind == 2:
            return header, payload[: chance.randrange(1, len(payload))]
        if kind == 3:
            extension = struct.pack("!HH", chance.randrange(65536), chance.randrange(4))
            return bytes([header[0] | 0x10]) + header[1:] + extension, payload
        return bytes([header[0] | chance.randrange(64)]) + header[1:], payload

    async def _listen(self, chance: random.Random) -> None:
        """A player that reads, or stalls, and is gone."""
        path = chance.choice(("/stream/latest.mp3", "/stream/guest%201.mp3", "/stream/bench-0.mp3?chunked=1"))
        headers = {"Icy-MetaData": "1"} if chance.random() < 0.5 else {}
        end_s = time.monotonic() + chance.uniform(0, _LONGEST_STAY_S)
        stalls = chance.random() < 0.3
        async with self._client.get(self._audio_url + path, headers=headers) as response:
            while time.monotonic() < end_s:
                if stalls:
                    await asyncio.sleep(end_s - time.monotonic())
                elif not await response.content.readany():
                    return

    async def _talk_nonsense(self, chance: random.Random) -> None:
        async with self._client.ws_connect(f"{self._url}/ws") as socket_:
            for _ in range(chance.randrange(1, 80)):
                await socket_.send_str(self._nonsense(chance))
                await asyncio.sleep(chance.uniform(0, 0.05))

    def _nonsense(self, chance: random.Random) -> str:
        sdp = Local.random(9, "AB:" * 31 + "AB").offer()
        messages: list[dict[str, object]] = [
            {"type": "start_sending", "name": chance.choice([*_NAMES, "", "../etc", "<b>", "x" * 99, 7])},
            {"type": "webrtc_offer", "offer": {"type": "offer", "sdp": sdp[: chance.randrange(len(sdp))]}},
            {"type": "webrtc_offer", "offer": {"type": "offer", "sdp": sdp}},
            {"type": "webrtc_answer", "answer": {"type": "answer", "sdp": sdp}},
            {"type": "ice_candidate", "candidate": {"candidate": chance.choice(["", "candidate:1 1 udp 1 x 1 typ"])}},
            {"type": "start_receiving", "stream_id": chance.choice([None, "bench-0", "nothing", 7, []])},
            {"type": "subscribe_visualization"},
            {"type": "stop_stream"},
            {"type": "get_available_streams"},
        ]
        text = json.dumps(chance.choice(messages))
        if chance.random() < 0.3:
            cut = chance.randrange(len(text))
            text = text[:cut] + chance.choice(["", "\0", "}", '"', "\ud83c".encode("utf-8", "replace").decode()])
        return text

    async def _ask_and_never_read(self, chance: random.Random) -> None:
        # 1 byte: the stream's reader stops reading once it has twice as much.
        _, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await asyncio.sleep(chance.uniform(0, _LONGEST_STAY_S))
        writer.transport.abort()

    async def _send_datagrams(self, chance: random.Random) -> None:
        """To a port where media goes, if one is known by now."""
        if not self._media_ports:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            for _ in range(chance.randrange(1, 50)):
                first = bytes([chance.choice((0, 0, 1, 22, 64, 128, 144, 255))])
                with contextlib.suppress(OSError):
                    stranger.sendto(
                        first + chance.randbytes(chance.randrange(0, 1400)),
                        ("127.0.0.1", chance.choice(sorted(self._media_ports))),
                    )
                await asyncio.sleep(0.002)

    async def _browse(self, chance: random.Random) -> None:
        headers = {"Accept": chance.choice(["*/*", "text/plain", "text/html"]), "Range": "bytes=0-1"}
        async with self._client.get(self._url + chance.choice(_PATHS), headers=headers) as response:
            await response.read()

    async def _present(
        self, session: signalling.Session, chance: random.Random, act: Callable[[LightPeer], Awaitable[None]]
    ) -> None:
        """Connects and acts, or only waits; then it says goodbye, hangs up, or vanishes and is not heard of again."""
        peer = session.peer
        self._media_ports.add(peer.socket.getpeername()[1])
        try:
            if chance.random() < 0.9:
                await connect(peer)
                await act(peer)
            else:
                await asyncio.sleep(chance.uniform(0, _LONGEST_STAY_S))
        finally:
            asyncio.get_running_loop().remove_reader(peer.socket)
            way = chance.choice(("goodbye", "hangs up", "vanishes"))
            self._met[way] += 1
            if way == "goodbye":
                await session.close()
            else:
                peer.closed = True
                peer.socket.close()
                session.pings.cancel()
                if way == "vanishes":
                    # Its WebSocket is there, but nobody reads it.
                    await asyncio.sleep(chance.uniform(0, _LONGEST_STAY_S))
                await session.socket.close()

    async def _stay(self, peer: LightPeer, chance: random.Random) -> None:
        end_s = time.monotonic() + chance.uniform(0, _LONGEST_STAY_S)
        while time.monotonic() < end_s:
            peer.tick(time.monotonic())
            await asyncio.sleep(0.5)


def run_crowd(pipe: Connection, cores: Collection[int], port: int, audio_port: int) -> None:
    """The crowd process's main."""
    settle(cores)
    os.nice(10)
    asyncio.run(serve_commands(pipe, _Crowd(port, audio_port).answer))
