"""A receiver among few: it notes when each packet arrives."""

import asyncio
import contextlib
import itertools
import struct
import time

from light_peer import LightPeer
from load_process import LoadError

WAIT_S = 10.0
"""For a first packet."""


class Player:
    """A peer that notes when packets arrive, by the kernel's time stamps where there are any.

    With `decrypt` by the number in each payload, else of the first one alone.
    """

    def __init__(self, peer: LightPeer, *, decrypt: bool = False) -> None:
        self.peer = peer
        self.packets = 0
        self.arrived_s: dict[int, float] = {}
        self.first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._decrypt = decrypt
        self._noted: list[tuple[int, float]] | None = None
        asyncio.get_running_loop().add_reader(peer.socket, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            datagram, control, _, _ = self.peer.socket.recvmsg(2048, 64)
            arrived_s = _seconds(control[0][2]) if control else time.time()
            if not 128 <= datagram[0] < 192:
                self.peer.take(datagram)
            elif not 192 <= datagram[1] <= 223:
                self._take(datagram, arrived_s)

    def decrypt(self, wanted: bool) -> None:
        """Whether each packet is, for `arrived_s`."""
        self._decrypt = wanted

    def await_next(self) -> None:
        """From now on, `first` and `until_first` mean the next packet."""
        self.first = asyncio.get_running_loop().create_future()

    def note_numbers(self) -> None:
        """From now on, for `noted`."""
        self._noted = []

    @property
    def noted_packets(self) -> int:
        """How many came since `note_numbers`."""
        return len(self._noted or ())

    def noted(self) -> tuple[int, float]:
        """Packets lost since `note_numbers`, by RTP's numbers, and the longest time between two, in seconds."""
        assert self._noted is not None
        arrivals = [arrived_s for _, arrived_s in self._noted]
        numbers = [number for number, _ in self._noted]
        span = (numbers[-1] - numbers[0]) & 0xFFFF
        return span + 1 - len(numbers), max(later - sooner for sooner, later in itertools.pairwise(arrivals))

    def _take(self, datagram: bytes, arrived_s: float) -> None:
        self.packets += 1
        if self._noted is not None:
            self._noted.append((int.from_bytes(datagram[2:4], "big"), arrived_s))
        if not self.first.done():
            self.first.set_result(arrived_s)
        if self._decrypt:
            (number,) = struct.unpack("!I", self.peer.unprotect(datagram)[-4:])
            self.arrived_s[number] = arrived_s

    async def until_first(self) -> float:
        deadline_s = time.monotonic() + WAIT_S
        while not self.first.done():
            if time.monotonic() > deadline_s:
                raise LoadError("a player got no packet")
            await asyncio.wait([self.first], timeout=0.05)
            self.peer.tick(time.monotonic())
        return self.first.result()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.peer.socket)
        self.peer.close()


def _seconds(timespec: bytes) -> float:
    """The kernel's time stamp, by the clock of `time.time`."""
    seconds, nanoseconds = struct.unpack("@ll", timespec)
    return float(seconds) + float(nanoseconds) / 1e9
