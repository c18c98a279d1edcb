"""The process that listens: up to thousands of MP3 players on one core, which read, count and throw away."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import median

from load_process import serve_commands, settle

_ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Join:
    """That many more listeners of a path, evenly over some time. Reply: JoinReport."""

    port: int
    path: str
    count: int
    spread_s: float


@dataclass(frozen=True)
class JoinReport:
    """`first_audio_s`: from the connection's begin to the first byte of audio."""

    first_audio_s: list[float]
    failures: list[str]


@dataclass(frozen=True)
class Listen:
    """Listen for some time. Reply: Window."""

    seconds: float


@dataclass(frozen=True)
class Window:
    """`gaps_s`: the longest time between two reads, for each listener that was there all the time."""

    gaps_s: list[float]
    audio_bytes: int
    lost_listeners: int
    cpu_s: float


@dataclass(frozen=True)
class Record:
    """One more listener of a path, that keeps what it gets for some time. Reply: Recording."""

    port: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Recording:
    """`first_audio_ns`: when the first byte of audio came (CLOCK_REALTIME), at which a player would begin."""

    first_audio_ns: int
    audio: bytes


@dataclass(eq=False)
class _Player(asyncio.Protocol):
    path: str
    keeps: bool = False
    begun_s: float = field(default_factory=time.monotonic)
    first_audio: "asyncio.Future[float]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    first_audio_ns: int = 0
    last_s: float = 0.0
    longest_gap_s: float = 0.0
    received: int = 0
    is_open: bool = True
    kept: bytearray = field(default_factory=bytearray)
    _head: bytes | None = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
            if b" 200 " not in head.split(b"\r\n")[0]:
                self.first_audio.set_exception(ConnectionError(head.split(b"\r\n")[0].decode()))
        if data and not self.first_audio.done():
            self.first_audio_ns = time.time_ns()
            self.first_audio.set_result(now_s - self.begun_s)
        elif now_s - self.last_s > self.longest_gap_s:
            self.longest_gap_s = now_s - self.last_s
        self.last_s = now_s
        self.received += len(data)
        if self.keeps:
            self.kept += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if not self.first_audio.done():
            self.first_audio.set_exception(ConnectionError("closed before any audio"))


class _Audience:
    def __init__(self) -> None:
        self._players: list[_Player] = []

    async def answer(self, command: object) -> object:
        match command:
            case Join():
                return await self._join(command)
            case Listen(seconds):
                return await self._listen(seconds)
            case Record(port, path, seconds):
                player = await _connect(port, path, keeps=True)
                await player.first_audio
                await asyncio.sleep(seconds)
                player.transport.abort()
                return Recording(player.first_audio_ns, bytes(player.kept))
        raise TypeError(f"unknown command {command}")

    async def _join(self, command: Join) -> JoinReport:
        report = JoinReport([], [])
        newcomers = []
        for _ in range(command.count):
            newcomers.append(asyncio.create_task(_connect(command.port, command.path)))
            await asyncio.sleep(command.spread_s / command.count)
        for newcomer in newcomers:
            try:
                player = await newcomer
                report.first_audio_s.append(await asyncio.wait_for(player.first_audio, _ANSWER_TIMEOUT_S))
                self._players.append(player)
            except (OSError, TimeoutError) as error:
                report.failures.append(f"{type(error).__name__}: {error}")
        return report

    async def _listen(self, seconds: float) -> Window:
        before = sum(player.received for player in self._players)
        present = [player for player in self._players if player.is_open]
        for player in present:
            player.longest_gap_s = 0.0
        cpu_s = time.process_time()
        await asyncio.sleep(seconds)
        return Window(
            gaps_s=[player.longest_gap_s for player in present if player.is_open],
            audio_bytes=sum(player.received for player in self._players) - before,
            lost_listeners=sum(not player.is_open for player in self._players),
            cpu_s=time.process_time() - cpu_s,
        )

    def close(self) -> None:
        for player in self._players:
            player.transport.abort()


async def _connect(port: int, path: str, keeps: bool = False) -> _Player:
    _, player = await asyncio.get_running_loop().create_connection(lambda: _Player(path, keeps), "127.0.0.1", port)
    return player


def run_listeners(pipe: Connection, cores: Collection[int]) -> None:
    """The listeners' process's main."""
    settle(cores)
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    audience = _Audience()
    try:
        await serve_commands(pipe, audience.answer)
    finally:
        audience.close()


def in_short(report: JoinReport) -> str:
    """A joining in one line."""
    if not report.first_audio_s:
        return "nobody could join"
    ordered = sorted(report.first_audio_s)
    return (
        f"first audio after {median(ordered) * 1e3:.0f} ms at the median, "
        f"{ordered[int(len(ordered) * 0.99)] * 1e3:.0f} ms p99"
    )
