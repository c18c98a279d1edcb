"""What senders and receivers have in common."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from aioice import Candidate
from aioice.ice import CandidatePair, ConnectionClosed, ConnectionEvent, server_reflexive_candidate
from aioice.ice import Connection as IceConnection
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.rtcdtlstransport import (
    RTCDtlsTransport,
)

from ..process.refusal import Refused
from . import rtp, sdp
from .certificate import SRTP_PROFILES
from .consent import Consent
from .endpoint import Endpoint
from .ice_port import PeerPort, host_candidate
from .shared_socket import Address, SharedSocket
from .srtp import Incoming
from .substitution import substitute

LEFT = "left"
"""The reason when a peer says goodbye, by RTCP or DTLS."""
MAX_TRICKLED_CANDIDATES = 64
MAX_EARLY_DATAGRAMS = 50
"""Media that may wait for the keys: one second of 20 ms packets."""
STUN_TIMEOUT_S = 2.0
"""A description waits no longer than this for a configured STUN server."""

_OPUS = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType == "audio/opus"]


class Peer:
    """What senders and receivers share: one peer connection with one audio section, on shared sockets.

    `on_connected` is called when ICE and DTLS are done, `on_gone` with the reason when the peer is lost: once, and not
    after `close`.
    """

    def __init__(self, endpoint: Endpoint, direction: str) -> None:
        self.on_connected: Callable[[], None] = _no_op
        self.on_gone: Callable[[str], None] = _no_op
        self._endpoint = endpoint
        self._closed = False
        self._candidates = 0
        self._early: deque[Incoming] | None = deque(maxlen=MAX_EARLY_DATAGRAMS)
        """Media that came before the keys: the other side has them first, and starts at once."""
        self._consent: Consent | None = None
        self._checks_consent = False
        self._deadline: asyncio.TimerHandle | None = None
        self._substituted: list[tuple[object, str]] = []
        servers = [RTCIceServer(urls=server.urls) for server in endpoint.settings.ice_servers]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        substitute(self._pc, "_RTCPeerConnection__certificates", [endpoint.certificate.current()])
        self._transceiver: RTCRtpTransceiver = self._pc.addTransceiver("audio", direction=direction)
        self._transceiver.setCodecPreferences(_OPUS)
        # Called by aiortc when keys are there; its own implementations start a queue, tasks and a decoder thread.
        self._substitute(self._transceiver.sender, "send", self._on_keys)
        self._substitute(self._transceiver.receiver, "receive", self._on_keys)
        self._dtls: RTCDtlsTransport = self._transceiver.receiver.transport
        self._dtls._srtp_profiles = SRTP_PROFILES
        self._ice: IceConnection = self._dtls.transport._connection
        # aioice's own has four characters, and all peers share a socket: of a thousand, two might have the same.
        substitute(self._ice, "_local_username", secrets.token_hex(8))
        self._substitute(self._ice, "gather_candidates", self._gather)
        self._substitute(self._ice, "check_complete", self._on_check_complete)
        self._substitute(self._ice, "query_consent", _no_consent_task)
        self._cname = uuid.uuid4().hex
        # aiortc's monitor asks for ever, without a pause, if the connection was closed before the monitor began.
        self._substitute(self._ice, "get_event", self._next_ice_event)
        self._pc.add_listener("connectionstatechange", self._on_connection_state)

    async def add_candidate(self, candidate: str) -> None:
        """A trickled candidate; empty at their end. Which section it names does not matter. Raises Refused."""
        self._candidates += 1
        if self._candidates > MAX_TRICKLED_CANDIDATES:
            raise Refused("too_many_candidates", f"More than {MAX_TRICKLED_CANDIDATES} candidates are not taken")
        if not candidate:
            return
        taken = sdp.take_candidate(candidate, self._endpoint.sockets.hosts())
        if taken is not None:
            await self._dtls.transport.addRemoteCandidate(taken)

    def connect_within(self, seconds: float) -> None:
        """Counts as lost if it takes longer."""
        if self._consent is None and not self._closed:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._lose, "not connected in time")

    def close(self) -> Coroutine[Any, Any, None]:
        """Says goodbye and closes the connection; safe to call twice.

        Media stops with the call; what it returns is to be awaited for the rest.
        """
        if self._closed:
            return asyncio.sleep(0)
        self._closed = True
        self.on_connected = self.on_gone = _no_op
        self._forget_deadline()
        self._endpoint.timers.discard(self)
        if self._consent is not None:
            self._consent.forget()
        self._leave()
        return self._close()

    def _substitute(self, owner: object, name: str, value: object) -> None:
        """`substitute`, undone when the peer closes."""
        substitute(owner, name, value)
        self._substituted.append((owner, name))

    async def _close(self) -> None:
        await self._pc.close()
        # Reference cycles of the library's objects with us and with each other. Cut, they are freed now; else they
        # would wait for a full garbage collection, which holds up all voices.
        for emitter in (self._pc, self._dtls, self._dtls.transport, self._dtls.transport.iceGatherer):
            emitter.remove_all_listeners()
        for pair in self._ice._check_list:
            pair.task = None
        self._ice._check_list.clear()
        while self._substituted:
            delattr(*self._substituted.pop())

    def on_timer(self, now_s: float) -> None:
        """Every PEER_INTERVAL_S: a report and a consent check by turns."""
        if self._consent is None:
            return
        if self._consent.has_expired(now_s):
            self._lose("does not answer any more")
        elif not self._checks_consent:
            self._report(now_s)
        elif (pair := self._ice._nominated.get(1)) is not None:
            self._consent.check(cast(PeerPort, pair.protocol), pair.remote_addr, now_s)
        self._checks_consent = not self._checks_consent

    def _report(self, now_s: float) -> None:
        """Sends the peer its RTCP report."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Stops media, while the connection is still open."""

    def _on_media(self, incoming: Incoming) -> None:
        if self._early is not None:
            self._early.append(incoming.copy())
        elif self._closed:
            return
        elif rtp.is_rtcp(incoming.datagram):
            if incoming.unprotect_rtcp(self._dtls._rx_srtp):
                self._on_rtcp(bytes(incoming.datagram))
            else:
                self._endpoint.refused_media += 1
        elif incoming.unprotect(self._dtls._rx_srtp):
            self._on_rtp(incoming.datagram, incoming.arrived_s)
        else:
            self._endpoint.refused_media += 1

    def _on_rtp(self, datagram: memoryview, arrived_s: float) -> None:
        self._endpoint.refused_media += 1

    def _on_rtcp(self, datagram: bytes) -> None:
        rtcp = rtp.parse_rtcp(datagram)
        if rtcp is None:
            self._endpoint.refused_media += 1
            return
        self._read_reports(rtcp)
        if rtcp.byes:
            self._lose(LEFT)

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        raise NotImplementedError

    def _send_rtcp(self, datagram: bytes) -> None:
        route = self._route()
        if route is not None and self._dtls.state == "connected":
            shared, address = route
            shared.send(self._dtls._tx_srtp.protect_rtcp(datagram), address)

    def _route(self) -> tuple[SharedSocket, Address] | None:
        """Where media goes: what ICE nominated, if it has."""
        pair = self._ice._nominated.get(1)
        return None if pair is None else (cast(PeerPort, pair.protocol).shared, pair.remote_addr)

    async def _on_keys(self, parameters: Any) -> None:
        """DTLS is done: media may flow."""
        if not self._closed:
            self._forget_deadline()
            self._start_media()
            now_s = asyncio.get_running_loop().time()
            self._consent = Consent(self._ice, self._endpoint.settings.consent_timeout_s, now_s)
            self._endpoint.timers.add(self)
            self.on_connected()
            early, self._early = self._early, None
            for incoming in early or ():
                self._on_media(incoming)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _start_media(self) -> None:
        raise NotImplementedError

    def _on_nominated(self) -> None:
        """ICE chose where media goes, at first or anew."""

    def _on_check_complete(self, pair: CandidatePair) -> None:
        before = self._ice._nominated.get(1)
        IceConnection.check_complete(self._ice, pair)
        nominated = self._ice._nominated.get(1)
        if nominated is not None and nominated is not before:
            self._on_nominated()

    async def _next_ice_event(self) -> ConnectionEvent:
        return await IceConnection.get_event(self._ice) or ConnectionClosed()

    def _on_connection_state(self) -> None:
        if self._pc.connectionState == "failed":
            self._lose("connection failed")
        elif self._pc.connectionState == "closed":
            self._lose(LEFT)

    def _lose(self, reason: str) -> None:
        if not self._closed:
            # Called once: whoever says goodbye may do so twice, and its connection closes after that.
            on_gone, self.on_gone = self.on_gone, _no_op
            on_gone(reason)

    async def _gather(self) -> None:
        """Replaces aioice's, which opens a socket for each address and peer."""
        if not self._ice._local_candidates_start:
            self._ice._local_candidates_start = True
            for shared in self._endpoint.sockets.open():
                port = PeerPort(self._ice, shared, self._on_media)
                self._ice._protocols.append(port)
            self._ice._local_candidates += self._advertised_candidates()
            if self._ice.stun_server is not None:
                self._ice._local_candidates += await self._ask_stun(self._ice.stun_server)
            self._ice._local_candidates_end = True

    def _advertised_candidates(self) -> list[Candidate]:
        """Where clients are told to send to: our sockets, or what is forwarded to them."""
        own = [cast(PeerPort, port).local_candidate for port in self._ice._protocols]
        told = self._endpoint.settings.advertised_addresses
        if not told:
            return own
        # A forwarded port keeps its number, and IPv6 is not forwarded to IPv4.
        advertised = {(address, c.port) for c in own for address in told if (":" in address) == (":" in c.host)}
        return [host_candidate(address, port) for address, port in sorted(advertised)]

    async def _ask_stun(self, server: Address) -> list[Candidate]:
        """The addresses that a configured STUN server sees us at; those that it does not tell in time are left out."""
        ports = [port for port in self._ice._protocols if ":" not in port.local_candidate.host]
        queries = [asyncio.wait_for(server_reflexive_candidate(port, server), STUN_TIMEOUT_S) for port in ports]
        answers = await asyncio.gather(*queries, return_exceptions=True)
        return [answer[0] for answer in answers if not isinstance(answer, BaseException)]

    async def _describe(self) -> str:
        """Our description, complete with candidates."""
        await self._pc.setLocalDescription()
        if self._closed:
            # It may have gathered after it was closed.
            await self._ice.close()
        return str(self._pc.localDescription.sdp)

    async def _take(self, text: str, kind: str) -> None:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=text, type=kind))
        except Exception as error:
            # A description can be wrong in more ways than aiortc's own errors tell: it may end within a line.
            raise Refused("bad_sdp", f"The {kind} does not fit: {error}") from error


def _no_op(*_: object) -> None:
    """What is called of a peer that nobody listens to."""


async def _no_consent_task() -> None:
    """Replaces aioice's endless task: `Peer.on_timer` does it for all peers."""
