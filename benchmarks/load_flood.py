"""The process that floods: many sockets that ask for too much, as fast as they can, and come back when cut off."""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from light_sdp import Local
from load_process import serve_commands, settle

# After an attempt that failed, as any client's loop would: a wait of nothing would mostly measure this process.
_PAUSE_S = 0.02
_ATTEMPT_TIMEOUT_S = 5.0
# Of all sockets together: some ten megabytes a second, with which this process leaves time for the voices on its core.
_POURS_PER_S = 2000
_PING, _TEXT, _CONTINUATION = 0x9, 0x1, 0x0
_FINAL = 0x80


@dataclass(frozen=True)
class Flood:
    """Attack in that way with so many sockets for so long. Reply: FloodReport."""

    kind: str
    sockets: int
    seconds: float


@dataclass
class FloodReport:
    """`answers`: HTTP status lines that were met, or what became of an attempt. `sent_bytes`: that the kernel took."""

    answers: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0


@dataclass(frozen=True)
class Attack:
    """What each socket sends once, and then over and over, until it is cut off or the time is over.

    `upgrades`: whether it wants to be a WebSocket first. `reads`: whether it takes what it gets.
    """

    opening: bytes = b""
    flood: Callable[[], bytes] = lambda: b""
    upgrades: bool = False
    reads: bool = True


def frame(kind: int, payload: bytes = b"", final: bool = True) -> bytes:
    """A client's WebSocket frame (RFC 6455 section 5.2), masked with zeros."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([kind | (_FINAL if final else 0)]) + length + bytes(4) + payload


def _text(**message: object) -> bytes:
    return frame(_TEXT, json.dumps(message).encode())


def _offers() -> bytes:
    """Becomes a sender under a name of its own and offers, over and over."""
    sdp = Local.random(9, "AB:" * 31 + "AB").offer()
    name = f"flood {os.urandom(4).hex()}"
    return (
        _text(type="start_sending", name=name) + _text(type="webrtc_offer", offer={"type": "offer", "sdp": sdp})
    ) * 5


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_QUESTIONS = _text(type="get_available_streams") * 200
_NONSENSE = frame(_TEXT, b'{"type": [[[') * 400
_PINGS = frame(_PING, b"x" * 8) * 500
_FRAGMENTS = frame(_TEXT, b"{", final=False) + frame(_CONTINUATION, final=False) * 2000
_NEGOTIATIONS = _text(type="start_receiving") * 20

ATTACKS = {
    "messages": Attack(flood=lambda: _QUESTIONS, upgrades=True),
    "unread messages": Attack(flood=lambda: _QUESTIONS, upgrades=True, reads=False),
    "nonsense": Attack(flood=lambda: _NONSENSE, upgrades=True),
    "pings": Attack(flood=lambda: _PINGS, upgrades=True),
    "fragments": Attack(flood=lambda: _FRAGMENTS, upgrades=True),
    "negotiations": Attack(flood=lambda: _NEGOTIATIONS, upgrades=True),
    "offers": Attack(flood=_offers, upgrades=True),
    "upgrades": Attack(upgrades=True),
    "requests": Attack(flood=lambda: _request("/metrics") * 20),
    "health requests": Attack(flood=lambda: _request("/health")),
    "bad requests": Attack(flood=lambda: b"GET /\x00 HTTP/9\r\n\r\n"),
    "slow requests": Attack(opening=b"GET / HTTP/1.1\r\nX: ", flood=lambda: b"y"),
    "deaf listeners": Attack(opening=_request("/stream/latest.mp3"), flood=lambda: b"", reads=False),
}


class _Flooder:
    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._report = FloodReport()
        self._pause_s = 0.0

    async def answer(self, command: object) -> object:
        match command:
            case Flood(kind, sockets, seconds):
                self._report = FloodReport()
                self._pause_s = sockets / _POURS_PER_S
                end_s = time.monotonic() + seconds
                await asyncio.gather(*(self._attack(ATTACKS[kind], end_s) for _ in range(sockets)))
                return self._report
        raise TypeError(f"unknown command {command}")

    async def _attack(self, attack: Attack, end_s: float) -> None:
        while time.monotonic() < end_s:
            with socket.socket() as connection:
                connection.setblocking(False)
                try:
                    await self._one_connection(attack, connection, end_s)
                except TimeoutError:
                    self._report.answers["no answer in time"] += 1
                except OSError as error:
                    self._report.answers[type(error).__name__] += 1
            await asyncio.sleep(_PAUSE_S)

    async def _one_connection(self, attack: Attack, connection: socket.socket, end_s: float) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_ATTEMPT_TIMEOUT_S):
            await loop.sock_connect(connection, self._address)
            await loop.sock_sendall(connection, _UPGRADE if attack.upgrades else attack.opening)
            if attack.upgrades:
                status = (await loop.sock_recv(connection, 4096))[9:12].decode("ascii", "replace") or "closed"
                self._report.answers[status] += 1
                if status != "101":
                    return
        if attack is ATTACKS["upgrades"]:
            return
        while time.monotonic() < end_s:
            await self._pour(attack, connection)
            await asyncio.sleep(self._pause_s)

    async def _pour(self, attack: Attack, connection: socket.socket) -> None:
        """One more of the flood. What the kernel does not take at once is sent before anything else: frames are cut."""
        chunk = attack.flood()
        if chunk:
            async with asyncio.timeout(_ATTEMPT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_sendall(connection, chunk)
            self._report.sent_bytes += len(chunk)
        if attack.reads:
            with contextlib.suppress(BlockingIOError):
                if not connection.recv(65536):
                    raise ConnectionResetError


def run_flood(pipe: Connection, cores: Collection[int], host: str, port: int) -> None:
    """The flood process's main."""
    settle(cores)
    # The voices and the health check share the core with this process, and are what is measured.
    os.nice(10)
    asyncio.run(serve_commands(pipe, _Flooder(host, port).answer))
