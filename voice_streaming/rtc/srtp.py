"""SRTP in place: datagrams are encrypted and decrypted in the buffer that they are sent from or were read into.

pylibsrtp itself copies every packet into a buffer of its own and out again. This is the only module that uses private
names of pylibsrtp; `tests/rtc/test_srtp.py` checks that the installed version has them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

from pylibsrtp import Session
from pylibsrtp._binding import ffi, lib

MAX_TRAILER_BYTES = 16 + 128
"""What libsrtp may append to a packet: the longest tag and an MKI (SRTP_MAX_TRAILER_LEN)."""

_LENGTH_OFFSET = 0 if sys.byteorder == "little" else ctypes.sizeof(ctypes.c_size_t) - ctypes.sizeof(ctypes.c_int)
"""Offset within a `size_t` of the `int` that libsrtp reads and writes as the length."""


class Incoming:
    """The buffer of the datagram that a socket read last: decrypted in place, and overwritten by the next read."""

    def __init__(self, capacity: int) -> None:
        self.memory = bytearray(capacity)
        self.arrived_s = 0.0
        """Monotonic seconds at which it was read."""
        self._view = memoryview(self.memory)
        self._packet = ffi.from_buffer(self.memory)
        self._length = ffi.new("int *")
        self.datagram = self._view[:0]
        """The present datagram: a view that is valid until the next read."""

    def hold(self, size: int, arrived_s: float) -> None:
        """Makes the first `size` bytes of `memory` the present datagram."""
        self.datagram = self._view[:size]
        self.arrived_s = arrived_s

    def copy(self) -> Incoming:
        """A copy that the next read does not overwrite."""
        size = len(self.datagram)
        copy = Incoming(max(size, 1))
        copy.memory[:size] = self.datagram
        copy.hold(size, self.arrived_s)
        return copy

    def unprotect(self, session: Session) -> bool:
        """Decrypts the RTP packet in place (RFC 3711); False if it is forged, replayed or malformed."""
        return self._decrypt(lib.srtp_unprotect, session)

    def unprotect_rtcp(self, session: Session) -> bool:
        """Decrypts the RTCP packet in place; False as for RTP."""
        return self._decrypt(lib.srtp_unprotect_rtcp, session)

    def _decrypt(self, decrypt: Any, session: Session) -> bool:
        self._length[0] = len(self.datagram)
        if decrypt(session._srtp[0], self._packet, self._length):
            return False
        self.datagram = self._view[: self._length[0]]
        return True


class BatchProtection:
    """Protects the packets of a batch. Each row has a session and the memory addresses of its packet and length.

    The memory belongs to the caller and must stay valid until the row is removed.
    """

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._handles: list[Any] = []
        self._packets: list[Any] = []
        self._lengths: list[Any] = []

    def add(self, session: Session, packet_address: int, length_address: int) -> None:
        self._sessions.append(session)
        self._handles.append(session._srtp[0])
        self._packets.append(_pointer("void *", packet_address))
        self._lengths.append(_pointer("int *", length_address + _LENGTH_OFFSET))

    def move(self, addresses: Sequence[tuple[int, int]]) -> None:
        """Sets new packet and length addresses, one pair for each row, as the memory was allocated anew."""
        self._packets = [_pointer("void *", packet) for packet, _ in addresses]
        self._lengths = [_pointer("int *", length + _LENGTH_OFFSET) for _, length in addresses]

    def remove(self, index: int) -> None:
        """Removes the row's session; the last session takes its row. The other rows' addresses do not change."""
        for column in (self._sessions, self._handles):
            last = column.pop()
            if index < len(column):
                column[index] = last
        self._packets.pop()
        self._lengths.pop()

    def protect(self) -> list[int]:
        """Encrypts every packet in place (RFC 3711), which lengthens it.

        Returns the rows that failed: these are not encrypted and must not be sent.
        """
        codes = list(map(lib.srtp_protect, self._handles, self._packets, self._lengths))
        if not any(codes):
            return []
        return [index for index, code in enumerate(codes) if code]


def _pointer(kind: str, address: int) -> Any:
    return ffi.cast(kind, address)
