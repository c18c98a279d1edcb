"""What arrived in a window of time, and what that says: losses, latencies, gaps."""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pylibsrtp
from marked_opus import MARK, MARK_SIGN, ToneListener

# In place of a packet's number: it has none because the relay encoded again; it is not of a receiver that counts.
UNMARKED = -1
NOT_COUNTED = -2
# Between two looks at the sockets while a window is evaluated: some 10 ms.
_ROWS_AT_A_TIME = 2000

Bounds = list[tuple[int, int]]
Column = npt.NDArray[np.int64]


@dataclass
class WindowReading:
    """A window as one receiver process saw it.

    `expected`, `received`: packets, over all receivers that were there when the window opened. `latencies_ms`: one per
    marked packet. `longest_gap_ms`: between two packets of one receiver. `tones`: (stream, tone, arrival in
    CLOCK_REALTIME ns) from relays that encode again. `socket_drops`: packets that this process was too slow to read.
    """

    receivers: int = 0
    expected: int = 0
    received: int = 0
    marked: bool = True
    latencies_ms: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    longest_gap_ms: float = 0.0
    tones: list[tuple[int, int, int]] = field(default_factory=list)
    socket_drops: int = 0
    forged: int = 0
    ended: int = 0
    cpu_s: float = 0.0
    srtp_profile: str = ""


class PacketSource(Protocol):
    """A receiver, as far as its packets need it afterwards."""

    stream: int

    def unprotect(self, datagram: bytes) -> bytes: ...


class PacketRecords:
    """Datagrams as they came while a window was open: keeping one costs 0.3 us, all the rest waits until the end."""

    def __init__(self) -> None:
        self.open = False
        self._datagrams: list[bytes] = []
        self._receivers = array("q")
        self._arrivals = bytearray()

    def begin(self) -> None:
        self._datagrams, self._receivers, self._arrivals = [], array("q"), bytearray()
        self.open = True

    def keep(self, receiver: int, datagram: bytes, arrival: bytes) -> None:
        """`arrival` is a C `struct timespec` of CLOCK_REALTIME."""
        self._datagrams.append(datagram)
        self._receivers.append(receiver)
        self._arrivals += arrival

    async def read(self, sources: Sequence[PacketSource], bounds: Bounds, time_ns: tuple[int, int]) -> WindowReading:
        """Close the window, decrypt every packet, and count those of `sources`, which are in order of their index.

        `bounds`: per stream, the first packet number that counts and the first that no longer does. Where packets have
        lost their marks, those count that arrived in `time_ns`, from and to.
        """
        self.open = False
        reading = WindowReading(receivers=len(sources))
        reading.expected = sum(bounds[source.stream][1] - bounds[source.stream][0] for source in sources)
        clocks = np.frombuffer(self._arrivals, np.dtype("l")).astype(np.int64).reshape(-1, 2)
        arrivals_ns = clocks[:, 0] * 1_000_000_000 + clocks[:, 1]
        receivers = np.frombuffer(self._receivers, np.int64)
        numbers, departures_ns = await self._read_marks(sources, arrivals_ns, reading)
        in_time = (arrivals_ns >= time_ns[0]) & (arrivals_ns < time_ns[1])
        reading.tones = [tone for tone in reading.tones if time_ns[0] <= tone[2] < time_ns[1]]
        begins, ends = np.array([bounds[source.stream] for source in sources] or [(0, 0)], np.int64).T
        whose = np.minimum(receivers, len(begins) - 1)
        marked = numbers >= 0
        counted = (marked & (numbers >= begins[whose]) & (numbers < ends[whose])) | ((numbers == UNMARKED) & in_time)
        reading.received = int(counted.sum())
        reading.marked = bool(marked.any())
        reading.latencies_ms = ((arrivals_ns - departures_ns)[counted & marked] / 1e6).astype(np.float32)
        reading.longest_gap_ms = _longest_gap_ms(receivers[counted], arrivals_ns[counted])
        return reading

    async def _read_marks(
        self, sources: Sequence[PacketSource], arrivals_ns: Column, reading: WindowReading
    ) -> tuple[Column, Column]:
        """Each packet's number, or UNMARKED, or NOT_COUNTED, and its departure; tones and forgeries into `reading`."""
        numbers = np.full(len(self._datagrams), NOT_COUNTED, np.int64)
        departures_ns = np.zeros(len(self._datagrams), np.int64)
        listeners: dict[int, ToneListener] = {}
        for row, (receiver, datagram) in enumerate(zip(self._receivers, self._datagrams, strict=True)):
            if row % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            if receiver >= len(sources):
                continue
            try:
                packet = sources[receiver].unprotect(datagram)
            except pylibsrtp.Error:
                reading.forged += 1
                continue
            _, number, departure_ns, sign = MARK.unpack_from(packet, len(packet) - MARK.size)
            if sign == MARK_SIGN:
                numbers[row], departures_ns[row] = number, departure_ns
                continue
            numbers[row] = UNMARKED
            listener = listeners.setdefault(receiver, ToneListener())
            heard = listener.hear(opus_payload(packet), int(arrivals_ns[row]))
            if heard:
                reading.tones.append((sources[receiver].stream, *heard))
        return numbers, departures_ns


def opus_payload(packet: bytes) -> bytes:
    """An RTP packet without its header, contributing sources and header extension (RFC 3550 section 5)."""
    begin = 12 + 4 * (packet[0] & 15)
    if packet[0] & 0x10:
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4], "big")
    return packet[begin:]


def _longest_gap_ms(receivers: Column, arrivals_ns: Column) -> float:
    order = np.lexsort((arrivals_ns, receivers))
    same_receiver = np.diff(receivers[order]) == 0
    gaps_ns = np.diff(arrivals_ns[order])[same_receiver]
    return float(gaps_ns.max() / 1e6) if len(gaps_ns) else 0.0
