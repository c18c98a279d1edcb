"""What senders and receivers have in common: the connection, once it is negotiated."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from aioice.ice import Connection as IceConnection
from aioice.ice import ConnectionClosed, ConnectionEvent
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
)
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from . import rtp
from .certificate import SRTP_PROFILES
from .consent import CHECK_SPREAD_S, Consent
from .dtls import DtlsPath, HandshakeWatch
from .endpoint import Endpoint
from .ice_port import PeerPort
from .ice_session import IceSession
from .shared_socket import Address, SharedSocket, is_client_hello
from .srtp import Incoming
from .substitution import substitute

LINGER_S = 1.0
"""How long an ICE session that was replaced still takes media: longer than any packet is under way."""
HANDSHAKE_TIMEOUT_S = 10.0
"""After that a handshake beside the association is given up, and another may begin."""
LEFT = "left"
"""The reason when the other end closed the connection: RTCP BYE (RFC 3550 section 6.6) or DTLS close_notify."""
MAX_EARLY_DATAGRAMS = 50
"""Media that may wait for the keys: one second of 20 ms packets."""

_OPUS = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType == "audio/opus"]


class Peer:
    """One peer connection with one audio section, on shared sockets.

    `on_connected` is called when ICE and DTLS are done, `on_gone` with the reason when the peer is lost: once, and not
    after `close`.
    """

    def __init__(self, endpoint: Endpoint, direction: str) -> None:
        self.on_connected: Callable[[], None] = _no_op
        self.on_gone: Callable[[str], None] = _no_op
        self._endpoint = endpoint
        self._closed = False
        self._early: deque[Incoming] | None = deque(maxlen=MAX_EARLY_DATAGRAMS)
        """Media that came before the keys: the other side has them first, and starts at once."""
        self._consent: Consent | None = None
        self._checks_consent = False
        self._deadline: asyncio.TimerHandle | None = None
        self._connected = asyncio.Event()
        """An ICE session chose a pair, or the peer is closed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._substituted: list[tuple[object, str]] = []
        servers = [RTCIceServer(urls=server.urls) for server in endpoint.settings.ice_servers]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._certificate = endpoint.certificate.current()
        substitute(self._pc, "_RTCPeerConnection__certificates", [self._certificate])
        self._transceiver: RTCRtpTransceiver = self._pc.addTransceiver("audio", direction=direction)
        self._transceiver.setCodecPreferences(_OPUS)
        # Called by aiortc when keys are there; its own implementations start a queue, tasks and a decoder thread.
        self._substitute(self._transceiver.sender, "send", self._on_keys)
        self._substitute(self._transceiver.receiver, "receive", self._on_keys)
        self._dtls: RTCDtlsTransport = self._transceiver.receiver.transport
        self._dtls._srtp_profiles = SRTP_PROFILES
        HandshakeWatch(self._dtls)
        self._dtls_path = DtlsPath(self._route)
        self._dtls_path.attach(self._dtls.transport)
        self._second_path: DtlsPath | None = None
        """Of a handshake beside the association that there is: after a restart, a new connection may have begun it."""
        self._begin_ice()
        self._cname = uuid.uuid4().hex
        self._pc.add_listener("connectionstatechange", self._on_connection_state)

    def _begin_ice(self) -> None:
        ice = self._dtls.transport._connection
        self._ice = IceSession(ice, self._endpoint, self, self._on_nominated)
        self._next_ice: IceSession | None = None
        """A restart, while media still takes the old way."""
        self._may_be_replaced = False
        """ICE was restarted: by the connection that we know, or by a new one that looks the same."""
        self._substitute(ice, "connect", self._wait_for_ice)
        # aiortc's monitor asks for ever, without a pause, if the connection was closed before the monitor began.
        self._substitute(ice, "get_event", self._next_ice_event)

    def connect_within(self, seconds: float) -> None:
        """Counts as lost if it takes longer."""
        if self._consent is None and not self._closed:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._lose, "not connected in time")

    def close(self) -> Coroutine[Any, Any, None]:
        """Sends RTCP BYE where media was sent, and closes the connection; safe to call twice.

        Media stops with the call; what it returns is to be awaited for the rest.
        """
        if self._closed:
            return asyncio.sleep(0)
        self._closed = True
        self.on_connected = self.on_gone = _no_op
        self._cancel_timers()
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
        self._connected.set()
        self._dtls_path.close()
        await self._pc.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for session in (self._ice, self._next_ice):
            if session is not None:
                await session.close()
        self._next_ice = None
        # Reference cycles of the library's objects with us and with each other. Cut, they are freed now; else they
        # would wait for a full garbage collection, which delays the packets of all streams.
        for emitter in (self._pc, self._dtls, self._dtls.transport, self._dtls.transport.iceGatherer):
            emitter.remove_all_listeners()
        self._dtls_path.release()
        while self._substituted:
            delattr(*self._substituted.pop())
        self._endpoint.note_peer_closed()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs it while the peer is open."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_timer(self, now_s: float) -> None:
        """Every PEER_INTERVAL_S: a report and a consent check by turns."""
        if self._consent is None:
            return
        if self._consent.has_expired(now_s):
            self._lose("does not answer any more")
        elif not self._checks_consent:
            self._report(now_s)
        else:
            delay_s = random.uniform(0, CHECK_SPREAD_S)
            self._endpoint.timers.once(self, delay_s, self._check_consent)
        self._checks_consent = not self._checks_consent

    async def answers(self, timeout_s: float) -> bool:
        """Whether the client answers a consent check, and another after half the time; False before it is connected.

        A check that was sent within half the time and is not answered yet counts: only the newest can be answered, and
        if each caller sent one, many callers would keep all of them from being answered.
        """
        interval_s = timeout_s / 2
        for _ in range(2):
            consent = self._consent
            if consent is None or self._closed:
                return False
            if consent.answered.is_set() or asyncio.get_running_loop().time() - consent.checked_s >= interval_s:
                self._check_consent()
            try:
                await asyncio.wait_for(consent.answered.wait(), interval_s)
                return True
            except TimeoutError:
                if self._consent is not consent:
                    # The client has restarted ICE meanwhile, so it is there.
                    return not self._closed
        return False

    def _check_consent(self) -> None:
        pair = self._ice.pair
        if self._consent is not None and pair is not None:
            now_s = asyncio.get_running_loop().time()
            self._consent.check(cast(PeerPort, pair.protocol), pair.remote_addr, now_s)

    def _report(self, now_s: float) -> None:
        """Sends the peer its RTCP report."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Stops media, while the connection is still open."""

    def on_dtls(self, datagram: bytes, port: PeerPort) -> None:
        """For `PortOwner`."""
        newest = self._next_ice or self._ice
        if self._second_path is not None:
            self._second_path.put(datagram)
        elif self._may_be_replaced and port.receiver is newest.connection and is_client_hello(datagram):
            self._second_path = DtlsPath(self._route)
            self._second_path.put(datagram)
            if self._next_ice is None:
                self._spawn(self._shake_hands(self._second_path), "dtls-handshake")
        self._dtls_path.put(datagram)

    def on_media(self, incoming: Incoming) -> None:
        """For `PortOwner`."""
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
        if self._is_bye(rtcp):
            self._lose(LEFT)

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        raise NotImplementedError

    def _is_bye(self, rtcp: rtp.Rtcp) -> bool:
        """Whether it names the SSRC that is the peer's."""
        raise NotImplementedError

    def _send_rtcp(self, datagram: bytes) -> None:
        route = self._route()
        if route is not None and self._dtls.state == "connected":
            shared, address = route
            shared.send(self._dtls._tx_srtp.protect_rtcp(datagram), address)

    def _route(self) -> tuple[SharedSocket, Address] | None:
        """Where media goes: what ICE nominated, if it has."""
        return self._ice.route()

    async def _on_keys(self, parameters: Any = None) -> None:
        """DTLS is done: media may flow. aiortc calls it after each negotiation."""
        if self._closed or self._early is None or not self._start_media():
            return
        self._forget_deadline()
        if self._consent is None:
            self._grant_consent()
            self._endpoint.timers.add(self)
            self.on_connected()
        early, self._early = self._early, None
        for incoming in early or ():
            self.on_media(incoming)

    def _grant_consent(self) -> None:
        """A nomination is consent (RFC 7675 section 5.1)."""
        if self._consent is not None:
            self._consent.forget()
        now_s = asyncio.get_running_loop().time()
        self._consent = Consent(self._ice.connection, self._endpoint.settings.consent_timeout_s, now_s)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancel_timers(self) -> None:
        self._forget_deadline()

    def _start_media(self) -> bool:
        """With new keys; False if it cannot start."""
        raise NotImplementedError

    def _redirect(self) -> None:
        """ICE chose where media goes, at first or anew."""

    def _on_nominated(self, session: IceSession) -> None:
        if self._closed:
            return
        if session is self._next_ice:
            old, self._ice, self._next_ice = self._ice, session, None
            substitute(self._dtls.transport, "_connection", session.connection)
            if self._consent is not None:
                self._grant_consent()
            self._spawn(self._retire(old), "close-ice")
            if self._second_path is not None:
                self._spawn(self._shake_hands(self._second_path), "dtls-handshake")
        elif session is not self._ice:
            return
        self._connected.set()
        self._redirect()

    async def _retire(self, session: IceSession) -> None:
        """Closes a session when what is still under way in it has come."""
        try:
            await asyncio.sleep(LINGER_S)
        finally:
            await session.close()

    async def _wait_for_ice(self) -> None:
        """Replaces aioice's `connect`: a restart may succeed where the first session does not."""
        self._ice.check()
        await self._connected.wait()
        if self._closed:
            raise ConnectionError("the peer is closed")

    async def _next_ice_event(self) -> ConnectionEvent:
        """When the session that is in use was closed."""
        while True:
            session = self._ice
            await IceConnection.get_event(session.connection)
            if session is self._ice:
                return ConnectionClosed()

    async def _shake_hands(self, path: DtlsPath) -> None:
        """Lets a new connection in place of the one we know have an association of its own.

        The one that there is goes on until the other end has shown that it has the certificate: anyone can send a
        ClientHello.
        """
        dtls = RTCDtlsTransport(cast(RTCIceTransport, path), [self._certificate])
        dtls._srtp_profiles = SRTP_PROFILES
        dtls._set_role("server")
        HandshakeWatch(dtls)
        prints = [RTCDtlsFingerprint(algorithm, value) for algorithm, value in self._fingerprints()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await dtls.start(RTCDtlsParameters(fingerprints=prints, role="client"))
        is_wanted, self._second_path = self._second_path is path, None
        if is_wanted and dtls.state == "connected":
            self._replace_association(dtls, path)
            await self._on_keys()
        elif dtls._task is not None:
            dtls._task.cancel()

    def _replace_association(self, dtls: RTCDtlsTransport, path: DtlsPath) -> None:
        self._may_be_replaced = False
        old, ice = self._dtls, self._dtls.transport
        old.remove_all_listeners()
        if old._task is not None:
            # Not `stop`: it would send close_notify to the new connection.
            old._task.cancel()
        self._dtls_path.detach()
        path.attach(ice)
        substitute(dtls, "_transport", ice)
        update = self._pc._RTCPeerConnection__updateConnectionState  # type: ignore[attr-defined]
        dtls.add_listener("statechange", update)
        substitute(self._pc, "_RTCPeerConnection__dtlsTransports", {dtls})
        self._transceiver.receiver.setTransport(dtls)
        self._transceiver.sender.setTransport(dtls)
        self._dtls, self._dtls_path = dtls, path
        self._early = deque(maxlen=MAX_EARLY_DATAGRAMS)

    def _fingerprints(self) -> frozenset[tuple[str, str]]:
        """The newest that the peer described itself with."""
        raise NotImplementedError

    def _on_connection_state(self) -> None:
        if self._pc.connectionState == "failed":
            self._lose("connection failed")
        elif self._pc.connectionState == "closed":
            self._lose(LEFT)

    def _lose(self, reason: str) -> None:
        if not self._closed:
            # Called once: RTCP BYE may come twice, and the connection closes after it.
            on_gone, self.on_gone = self.on_gone, _no_op
            on_gone(reason)


def _no_op(*_: object) -> None:
    """The callback where none is set."""
