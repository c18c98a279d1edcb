"""Somebody's UDP socket."""

from __future__ import annotations

import socket

from voice_streaming.rtc.shared_socket import Address, SharedSocket


class Client:
    """Somebody's socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()[:2]

    def send(self, datagram: bytes, to: SharedSocket) -> None:
        self.socket.sendto(datagram, to.address)

    def received(self) -> list[bytes]:
        """What has arrived; on loopback that is all that was sent."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096))
            except BlockingIOError:
                return datagrams

    def close(self) -> None:
        self.socket.close()
