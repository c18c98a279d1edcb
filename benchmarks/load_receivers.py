"""The process that listens: hundreds of light peers on one core.

While a window is open, a packet costs one recvmsg and a place in a list; it is decrypted after the window. Its time of
arrival is the kernel's word, so it does not matter when this process gets round to reading it.
"""

import asyncio
import contextlib
import os
import selectors
import socket
import struct
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import signalling
from light_peer import (
    CONSENT_INTERVAL_S,
    REPORT_INTERVAL_S,
    Identity,
    receiver_report,
)
from load_process import serve_commands, settle
from machine import socket_drops
from packet_records import Bounds, PacketRecords, WindowReading

_DATAGRAM_BYTES = 2048
_CONTROL_BYTES = socket.CMSG_SPACE(16)
_TIMESPEC = struct.Struct("@ll")
_FIRST_PACKET_TIMEOUT_S = 20.0
# Between two rounds of reading: a receive buffer holds seconds, and larger rounds waste less.
_READ_INTERVAL_S = 0.004
_UPKEEP_SLOTS = 50
# Joins under way at once where they are not spread over a time: about what keeps the server busy.
_JOINS_AT_ONCE = 8


@dataclass(frozen=True)
class Join:
    """Add one receiver per (stream id, stream number), evenly over `spread_s`. Reply: JoinReport."""

    streams: list[tuple[str, int]]
    spread_s: float = 0.0
    at_once: int = _JOINS_AT_ONCE


@dataclass(frozen=True)
class Leave:
    """Close all receivers but the first `keep`. Reply: None."""

    keep: int


@dataclass(frozen=True)
class OpenWindow:
    """Begin to record what the receivers that are here now receive. Reply: None."""


@dataclass(frozen=True)
class CloseWindow:
    """`bounds`, `time_ns`: what counts, as `PacketRecords.read` takes it. Reply: WindowReading."""

    bounds: Bounds
    time_ns: tuple[int, int]


@dataclass
class JoinReport:
    """`first_packet_s`: from `start_receiving` to the first RTP packet's arrival. `failures`: what the others met."""

    first_packet_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class _Receiver:
    """One listener: its peer, and what it counts."""

    def __init__(self, index: int, stream: int, session: signalling.Session, records: PacketRecords) -> None:
        self.index = index
        self.stream = stream
        self.session = session
        self.first_arrival: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._recvmsg = session.peer.socket.recvmsg
        self._records = records
        self._packets = 0
        self._last = b""
        self._first_sequence = self._cycles = self._highest = 0

    def read(self) -> None:
        """Take one datagram from the socket, if there is one. This is the hot path of the load."""
        try:
            datagram, control, _, _ = self._recvmsg(_DATAGRAM_BYTES, _CONTROL_BYTES)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if not 128 <= datagram[0] < 192:
            self.session.peer.take(datagram)
            return
        # RFC 5761 section 4: these are RTCP. The server's sender reports are received, and that is all.
        if 192 <= datagram[1] <= 223:
            return
        self._packets += 1
        self._last = datagram
        arrival = control[0][2] if control else _now()
        if self._packets == 1:
            self._begin(datagram, arrival)
        if self._records.open:
            self._records.keep(self.index, datagram, arrival)

    def report(self) -> None:
        """Send an RTCP receiver report of what arrived so far."""
        if not self._packets:
            return
        sequence, ssrc = struct.unpack_from("!2xH4xI", self._last)
        if sequence < self._highest:
            self._cycles += 1
        self._highest = sequence
        extended = (self._cycles << 16) + sequence
        lost = extended - self._first_sequence + 1 - self._packets
        peer = self.session.peer
        peer.send_rtcp(receiver_report(peer.local.ssrc, ssrc, extended, lost))

    def unprotect(self, datagram: bytes) -> bytes:
        return self.session.peer.unprotect(datagram)

    def _begin(self, datagram: bytes, arrival: bytes) -> None:
        self._first_sequence = self._highest = int.from_bytes(datagram[2:4], "big")
        seconds, nanoseconds = _TIMESPEC.unpack(arrival)
        self.first_arrival.set_result(seconds * 1_000_000_000 + nanoseconds)


def _now() -> bytes:
    """The time where the kernel does not stamp datagrams, which is everywhere but on Linux."""
    return _TIMESPEC.pack(*divmod(time.time_ns(), 1_000_000_000))


class _ReceiverLoad:
    def __init__(self, url: str) -> None:
        self._url = url
        self._identity = Identity()
        self._client = signalling.open_client()
        self._receivers: list[_Receiver] = []
        self._selector = selectors.DefaultSelector()
        self._records = PacketRecords()
        self._present: list[_Receiver] = []
        self._opened_cpu_s = 0.0
        self._opened_drops = 0
        self._tasks = [asyncio.create_task(self._keep_reading()), asyncio.create_task(self._keep_alive())]

    async def answer(self, command: object) -> object:
        for task in self._tasks:
            if task.done():
                task.result()
        match command:
            case Join():
                return await self._join_all(command)
            case Leave(keep):
                await self._leave(keep)
                return None
            case OpenWindow():
                self._open_window()
                return None
            case CloseWindow():
                return await self._close_window(command)
        raise TypeError(f"unknown command {command}")

    def _open_window(self) -> None:
        self._present = list(self._receivers)
        self._opened_cpu_s = time.process_time()
        self._opened_drops = socket_drops(self._inodes())
        self._records.begin()

    async def _close_window(self, command: CloseWindow) -> WindowReading:
        cpu_s = time.process_time() - self._opened_cpu_s
        drops = socket_drops(self._inodes()) - self._opened_drops
        reading = await self._records.read(self._present, command.bounds, command.time_ns)
        reading.cpu_s, reading.socket_drops = cpu_s, drops
        reading.ended = sum(receiver.session.ended for receiver in self._present)
        if self._present:
            reading.srtp_profile = self._present[0].session.peer.srtp_profile
        return reading

    def _inodes(self) -> set[int]:
        return {os.fstat(receiver.session.peer.socket.fileno()).st_ino for receiver in self._receivers}

    async def _join_all(self, command: Join) -> JoinReport:
        report = JoinReport()
        room = asyncio.Semaphore(len(command.streams) if command.spread_s else command.at_once)
        interval_s = command.spread_s / max(len(command.streams), 1)

        async def join_one(order: int, stream_id: str, stream: int) -> None:
            await asyncio.sleep(order * interval_s)
            async with room:
                try:
                    report.first_packet_s.append(await self._join(stream_id, stream))
                except (signalling.RefusedError, OSError, ValueError, TimeoutError) as error:
                    report.failures.append(f"{type(error).__name__}: {error}")

        await asyncio.gather(*(join_one(order, *stream) for order, stream in enumerate(command.streams)))
        return report

    async def _join(self, stream_id: str, stream: int) -> float:
        session = await signalling.receive(self._client, self._url, self._identity, stream_id)
        receiver = _Receiver(len(self._receivers), stream, session, self._records)
        self._receivers.append(receiver)
        with self._reading_at_once(receiver):
            deadline_s = time.monotonic() + _FIRST_PACKET_TIMEOUT_S
            while not receiver.first_arrival.done():
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no packet within {_FIRST_PACKET_TIMEOUT_S:.0f} s of start_receiving")
                await asyncio.wait([receiver.first_arrival], timeout=0.05)
                session.peer.tick(time.monotonic())
        self._selector.register(session.peer.socket, selectors.EVENT_READ, receiver.read)
        return float(receiver.first_arrival.result() - session.asked_ns) / 1e9

    @contextlib.contextmanager
    def _reading_at_once(self, receiver: _Receiver) -> Iterator[None]:
        """During the handshake every datagram is answered the moment that it comes."""
        loop = asyncio.get_running_loop()
        loop.add_reader(receiver.session.peer.socket, receiver.read)
        try:
            yield
        finally:
            loop.remove_reader(receiver.session.peer.socket)

    async def _keep_reading(self) -> None:
        while True:
            for key, _ in self._selector.select(0):
                key.data()
            await asyncio.sleep(_READ_INTERVAL_S if hasattr(socket, "AF_PACKET") else 0)

    async def _keep_alive(self) -> None:
        """Consent and reports of every receiver in turn, evenly spread."""
        slot = 0
        slot_s = CONSENT_INTERVAL_S / _UPKEEP_SLOTS
        rounds_per_report = round(REPORT_INTERVAL_S / CONSENT_INTERVAL_S)
        due_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            for receiver in self._receivers[slot % _UPKEEP_SLOTS :: _UPKEEP_SLOTS]:
                receiver.session.peer.tick(now_s)
                if (slot // _UPKEEP_SLOTS + receiver.index) % rounds_per_report == 0 and receiver.session.peer.ready:
                    receiver.report()
            slot += 1
            due_s += slot_s
            await asyncio.sleep(max(due_s - time.monotonic(), 0))

    async def _leave(self, keep: int) -> None:
        leaving, self._receivers = self._receivers[keep:], self._receivers[:keep]
        for receiver in leaving:
            with contextlib.suppress(KeyError):  # one that never got a packet was never registered
                self._selector.unregister(receiver.session.peer.socket)
        await asyncio.gather(*(receiver.session.close() for receiver in leaving))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for receiver in self._receivers:
            receiver.session.peer.close()
            receiver.session.pings.cancel()
        await self._client.close()


def run_receivers(pipe: Connection, cores: Collection[int], url: str) -> None:
    """A receiver process's main."""
    settle(cores)
    asyncio.run(_serve(pipe, url))


async def _serve(pipe: Connection, url: str) -> None:
    load = _ReceiverLoad(url)
    try:
        await serve_commands(pipe, load.answer)
    finally:
        await load.close()
