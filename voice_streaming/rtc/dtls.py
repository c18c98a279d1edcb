"""The DTLS side of a peer: how its datagrams come and go, and why a handshake failed."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

from aiortc import RTCIceTransport
from aiortc.rtcdtlstransport import RTCDtlsTransport
from OpenSSL import SSL

from .shared_socket import Address, SharedSocket
from .substitution import substitute

logger = logging.getLogger(__name__)

MAX_QUEUED_DATAGRAMS = 64
"""DTLS datagrams that may wait for the handshake to read them."""
_HANDSHAKE_CALLS = ("do_handshake", "recv")

Route = tuple[SharedSocket, Address]


class DtlsPath:
    """Carries the datagrams of aiortc's DTLS transport, which so outlives the ICE session that it began in.

    Until it is attached to an ICE transport, it can stand in for one.
    """

    def __init__(self, route: Callable[[], Route | None]) -> None:
        self._route: Callable[[], Route | None] = route
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ice: RTCIceTransport | None = None

    def attach(self, ice: RTCIceTransport) -> None:
        """Whoever uses the ICE transport uses this path from now on."""
        self._ice = ice
        substitute(ice, "_recv", self._recv)
        substitute(ice, "_send", self._send)

    def put(self, datagram: bytes) -> None:
        """Hands a datagram to the transport; dropped where too many wait: DTLS repeats its flights."""
        if self._incoming.qsize() < MAX_QUEUED_DATAGRAMS:
            self._incoming.put_nowait(datagram)

    def close(self) -> None:
        """Ends a transport that waits for a datagram. What it sends still goes out."""
        self._incoming.put_nowait(None)

    def detach(self) -> None:
        """Another path is attached in place of this one."""
        self._route, self._ice = _no_route, None

    def release(self) -> None:
        """After the transport stopped."""
        self._route = _no_route
        if self._ice is not None:
            for name in ("_recv", "_send"):
                self._ice.__dict__.pop(name, None)

    async def _recv(self) -> bytes:
        datagram = await self._incoming.get()
        if datagram is None:
            raise ConnectionError("the peer is closed")
        return datagram

    async def _send(self, datagram: bytes) -> None:
        route = self._route()
        if route is None:
            raise ConnectionError("ICE is not connected")
        shared, address = route
        shared.send(datagram, address)


class HandshakeWatch:
    """Says in the log why a handshake failed, which aiortc keeps to itself."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._dtls = dtls
        self._reason = ""
        dtls.add_listener("statechange", self._on_state)

    def _on_state(self) -> None:
        if self._dtls.state == "connecting" and self._dtls._ssl is not None:
            # aiortc has just made it. It calls either; what `recv` says of a handshake, it passes over.
            for name in _HANDSHAKE_CALLS:
                substitute(self._dtls._ssl, name, functools.partial(self._call, getattr(self._dtls._ssl, name)))
        elif self._dtls._ssl is not None:
            for name in _HANDSHAKE_CALLS:
                self._dtls._ssl.__dict__.pop(name, None)
        if self._dtls.state == "failed":
            logger.info("A DTLS handshake as %s failed: %s", self._dtls._role, self._reason or self._guess())

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except SSL.Error as error:
            self._reason = _words(error) or self._reason
            raise

    def _guess(self) -> str:
        if not self._dtls.encrypted:
            return "the connection was closed"
        if self._dtls._ssl is not None and not self._dtls._ssl.get_selected_srtp_profile():
            return "no SRTP profile in common"
        return "the certificate does not have the fingerprint of the description"


def _words(error: SSL.Error) -> str:
    """OpenSSL's reasons, the last of each entry of its error queue."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in entries)


def _no_route() -> Route | None:
    return None
