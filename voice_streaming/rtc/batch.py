"""Datagrams that are sent through one socket in one system call (sendmmsg)."""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
import struct
import sys
from typing import Any

import numpy as np

from .shared_socket import Address, SharedSocket

SLOT_BYTES = 2048
"""Bytes for one outgoing datagram: more than an Ethernet frame carries, so that any packet received can be sent on."""

FEW_ROWS = 4
"""Up to so many rows a Python loop is cheaper than the fixed cost of a call to numpy."""

MAX_MESSAGES_PER_CALL = 1024
"""What the kernel takes in one sendmmsg (UIO_MAXIOV)."""


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    """Linux's `struct mmsghdr` (sendmmsg(2))."""

    _fields_ = (("header", _MsgHdr), ("sent", ctypes.c_uint))


def _find_sendmmsg() -> Any:
    """The C library's sendmmsg, or None where there is none (macOS)."""
    if sys.platform != "linux":
        return None
    sendmmsg = getattr(ctypes.CDLL(None, use_errno=True), "sendmmsg", None)
    if sendmmsg is not None:
        sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        sendmmsg.restype = ctypes.c_int
    return sendmmsg


_sendmmsg = _find_sendmmsg()


class Batch:
    """Datagrams that are sent through one socket together, each to an address of its own.

    Rows of `slots` (uint8, shape (capacity, SLOT_BYTES)) hold the datagrams, `lengths` (uintp) their lengths; the first
    `size` are sent. Adding grows the arrays, so views of them do not outlive an `add`: `slots` and `lengths` must be
    read again after it. Removing moves the last row into the gap.
    """

    def __init__(self, shared: SharedSocket) -> None:
        self.shared = shared
        self.size = 0
        self._addresses: list[Address] = []
        self._allocate(8)

    def add(self, address: Address) -> int:
        """Adds a row for the address and returns its index."""
        if self.size == len(self.slots):
            self._allocate(2 * self.size)
        index = self.size
        self.size += 1
        self._addresses.append(address)
        self._write_address(index)
        return index

    def remove(self, index: int) -> None:
        """Removes the row; the last row, if it is another, moves to its index."""
        last = self._addresses.pop()
        self.size -= 1
        if index < self.size:
            self._addresses[index] = last
            self._write_address(index)

    def fill(self, datagram: bytes) -> None:
        """Copies the datagram into every row."""
        size, length = self.size, len(datagram)
        if size <= FEW_ROWS:
            for row in range(size):
                self._bytes[row * SLOT_BYTES : row * SLOT_BYTES + length] = datagram
                self._words[2 * row + 1] = length
        else:
            self.slots[:size, :length] = np.frombuffer(datagram, np.uint8)
            self.lengths[:size] = length

    def slot_address(self, index: int) -> int:
        """Memory address of the row's datagram."""
        return int(self.slots.ctypes.data) + index * SLOT_BYTES

    def length_address(self, index: int) -> int:
        """Memory address of the row's length: a `size_t` in native byte order."""
        return ctypes.addressof(self._iovecs) + index * ctypes.sizeof(_IoVec) + _IoVec.length.offset

    def send(self) -> list[int]:
        """Sends every row once, without waiting. Returns the rows that were not sent, mostly as the socket was full.

        An address that cannot be reached fails its own row only.
        """
        if _sendmmsg is None:
            return [index for index in range(self.size) if not self.send_row(index)]
        start = 0
        failed = []
        descriptor = self.shared.socket.fileno()
        while start < self.size:
            count = min(self.size - start, MAX_MESSAGES_PER_CALL)
            sent = _sendmmsg(descriptor, self._headers_address + start * ctypes.sizeof(_MMsgHdr), count, _DONT_WAIT)
            if sent < 0:
                # An error concerns the first row of the call: the rows after it have not been tried.
                failed.append(start)
                sent = 1
            start += sent
        return failed

    def send_row(self, index: int) -> bool:
        """Sends one row; False when it was not sent."""
        row = memoryview(self.slots[index])[: int(self.lengths[index])]
        return self.shared.send(row, self._addresses[index])

    def _allocate(self, capacity: int) -> None:
        self.slots = np.zeros((capacity, SLOT_BYTES), np.uint8)
        self._bytes = self.slots.data.cast("B")
        self._iovecs = (_IoVec * capacity)()
        # Pairs of a pointer and a `size_t`, which is as wide.
        self._words = memoryview(self._iovecs).cast("B").cast("P")
        self._names = np.zeros((capacity, _NAME_BYTES), np.uint8)
        self._headers = (_MMsgHdr * capacity)()
        self._headers_address = ctypes.addressof(self._headers)
        self.lengths = np.frombuffer(self._words, np.uintp)[1::2]
        for index in range(capacity):
            self._iovecs[index].base = self.slot_address(index)
            header = self._headers[index].header
            header.name = int(self._names.ctypes.data) + index * _NAME_BYTES
            header.iov = ctypes.pointer(self._iovecs[index])
            header.iov_length = 1
        for index in range(self.size):
            self._write_address(index)

    def _write_address(self, index: int) -> None:
        name = _pack_address(self._addresses[index])
        self._names[index, : len(name)] = np.frombuffer(name, np.uint8)
        self._headers[index].header.name_length = len(name)


_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)

_NAME_BYTES = 28
"""sizeof(struct sockaddr_in6)."""


def _pack_address(address: Address) -> bytes:
    """The address as Linux's `struct sockaddr_in` (ip(7)) or `sockaddr_in6` (ipv6(7)); scope 0."""
    host, port = address
    if ":" in host:
        family, packed = struct.pack("=H", socket.AF_INET6), socket.inet_pton(socket.AF_INET6, host)
        return family + struct.pack("!HI", port, 0) + packed + bytes(4)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
