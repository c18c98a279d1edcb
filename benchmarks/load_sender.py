"""The process that speaks: 1 to 20 streams of marked Opus, one packet each 20 ms, as microphones would."""

import asyncio
import os
import secrets
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import signalling
from light_peer import REPORT_INTERVAL_S, Identity, LightPeer, sender_report
from light_sdp import OPUS_PAYLOAD_TYPE
from load_process import serve_commands, settle
from marked_opus import PACKET_S, SAMPLES_PER_PACKET, encode_loop, mark, tone_of

_CONNECT_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class StartStreams:
    """Begin that many streams. Reply: their ids, in order of their stream numbers."""

    count: int


@dataclass(frozen=True)
class ReadSender:
    """Reply: SenderReading, of what happened since the last one."""


@dataclass(frozen=True)
class SetSilent:
    """Stop sending packets but stay connected, or go on. Reply: None."""

    silent: bool


@dataclass
class SenderReading:
    """`next_numbers`: per stream, the next packet's number. `late_s`: how late each tick was.

    `tones`: per stream, (tone, departure in CLOCK_REALTIME ns). `refused`: datagrams that the kernel did not take.
    """

    next_numbers: list[int]
    late_s: list[float]
    tones: list[list[tuple[int, int]]]
    refused: int
    srtp_profile: str
    cpu_s: float


@dataclass
class _Stream:
    """One microphone."""

    number: int
    session: signalling.Session
    ssrc: int
    sequence: int = field(default_factory=lambda: secrets.randbits(15))
    timestamp: int = field(default_factory=lambda: secrets.randbits(31))
    packet_number: int = 0
    refused: int = 0
    tones: list[tuple[int, int]] = field(default_factory=list)

    def speak(self, loop_packets: list[bytes]) -> None:
        """Send the next packet. Its departure is taken before it is encrypted, so latency includes that (some 3 us)."""
        packet = loop_packets[self.packet_number % len(loop_packets)]
        header = struct.pack("!BBHII", 0x80, OPUS_PAYLOAD_TYPE, self.sequence, self.timestamp, self.ssrc)
        departure_ns = time.time_ns()
        payload = mark(packet, self.number, self.packet_number, departure_ns)
        if not self.session.peer.send(self.session.peer.protect(header + payload)):
            self.refused += 1
        tone = tone_of(self.packet_number)
        if tone is not None:
            self.tones.append((tone, departure_ns))
        self.packet_number += 1
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.skip_time()

    def skip_time(self) -> None:
        self.timestamp = (self.timestamp + SAMPLES_PER_PACKET) & 0xFFFFFFFF


class _SenderLoad:
    def __init__(self, url: str) -> None:
        self._url = url
        self._identity = Identity()
        self._packets = encode_loop()
        self._streams: list[_Stream] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._silent = False
        self._late_s: list[float] = []

    async def answer(self, command: object) -> object:
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError("the server closed the sender's connection")
        match command:
            case StartStreams(count):
                return await self._start(count)
            case SetSilent(silent):
                self._silent = silent
                return None
            case ReadSender():
                return self._read()
        raise TypeError(f"unknown command {command}")

    def _read(self) -> SenderReading:
        late_s, self._late_s = self._late_s, []
        return SenderReading(
            next_numbers=[stream.packet_number for stream in self._streams],
            late_s=late_s,
            tones=[stream.tones for stream in self._streams],
            refused=sum(stream.refused for stream in self._streams),
            srtp_profile=self._streams[0].session.peer.srtp_profile if self._streams else "",
            cpu_s=time.process_time(),
        )

    async def _start(self, count: int) -> list[str]:
        self._client = signalling.open_client()
        names = [f"bench-{number}" for number in range(count)]
        for number, name in enumerate(names):
            session = await signalling.send(self._client, self._url, self._identity, name)
            await connect(session.peer)
            self._streams.append(_Stream(number, session, session.peer.local.ssrc))
        start_s = time.monotonic()
        for stream in self._streams:
            # Microphones do not speak in step: the streams share the 20 ms evenly.
            phase_s = PACKET_S * stream.number / count
            self._tasks.append(asyncio.create_task(self._speak(stream, start_s + phase_s)))
        return [await signalling.find_stream(self._client, self._url, name) for name in names]

    async def _speak(self, stream: _Stream, due_s: float) -> None:
        peer = stream.session.peer
        report_due_s = due_s
        while not stream.session.ended:
            await asyncio.sleep(due_s - time.monotonic())
            if self._silent:
                stream.skip_time()
            else:
                self._late_s.append(time.monotonic() - due_s)
                stream.speak(self._packets)
            peer.tick(due_s)
            if due_s >= report_due_s:
                report_due_s += REPORT_INTERVAL_S
                count = stream.packet_number
                peer.send_rtcp(sender_report(stream.ssrc, stream.timestamp, count, count * len(self._packets[0])))
            due_s += PACKET_S

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for stream in self._streams:
            asyncio.get_running_loop().remove_reader(stream.session.peer.socket)
            await stream.session.close()
        if self._streams:
            await self._client.close()


async def connect(peer: LightPeer) -> None:
    """Until media can flow; from then on, whatever arrives is still answered."""
    loop = asyncio.get_running_loop()
    loop.add_reader(peer.socket, take_all, peer)
    deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
    while not peer.ready:
        if time.monotonic() > deadline_s:
            raise signalling.RefusedError(f"the sender was not connected after {_CONNECT_TIMEOUT_S:.0f} s")
        await asyncio.sleep(0.01)
        peer.tick(time.monotonic())


def take_all(peer: LightPeer) -> None:
    try:
        while True:
            peer.take(peer.socket.recv(2048))
    except (BlockingIOError, ConnectionRefusedError):
        return


def _go_first() -> None:
    """Before the receivers, which share the core: a tick that waits for them would look like the server's delay."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):
        # Without the privilege the ticks may be late; the report says how late they were.
        return


def run_sender(pipe: Connection, cores: Collection[int], url: str) -> None:
    """The sender process's main."""
    settle(cores)
    _go_first()
    asyncio.run(_serve(pipe, url))


async def _serve(pipe: Connection, url: str) -> None:
    load = _SenderLoad(url)
    try:
        await serve_commands(pipe, load.answer)
    finally:
        await load.close()
