"""WebRTC peers: the tap on a sender, the direct write to a receiver.

aiortc negotiates, aioice connects and OpenSSL agrees on keys as ever; from then on media does not pass through them.
Their sockets are replaced by shared ones (`udp`), a sender's datagrams go from the socket to its track in one call, and
a receiver's packets from the track to the socket (`fanout`): no jitter buffer, decoder, encoder, queue, task or thread
for either.

This is the only module that touches a private name of aiortc or aioice; `tests/test_peers_contract.py` holds the
installed versions to each of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any, cast

import pylibsrtp
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
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
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTP_PROFILES,
    RTCCertificate,
    RTCDtlsTransport,
)

from . import rtp, sdp
from .config import WebrtcSettings
from .fanout import Fanout, Lane
from .messages import CandidateInit
from .opus import OpusPacket
from .refusal import Refused
from .relay import OpusTrack, VoiceRelay
from .udp import Address, SharedSocket, is_media, is_stun

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 2.5
"""How often each peer is sent an RTCP report: within RFC 3550 section 6.2's bounds at any bit rate of a voice."""
REPORT_SLOTS = 10
"""Peers are spread over this many moments of an interval, so that their reports do not come in one burst."""
CERTIFICATE_AGE_S = 86_400.0
"""All peers share a certificate; it is made anew once a day, long before its 30 days are over."""
MAX_TRICKLED_CANDIDATES = 64
MAX_QUEUED_DATAGRAMS = 64
"""DTLS datagrams that may wait for the handshake to read them."""

_OPUS = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType == "audio/opus"]
_PROFILES = [p for p in (SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80) if p in SRTP_PROFILES]
"""Cheapest first: with AES in the CPU, GCM costs about 0.6 us a packet and SHA-1 0.4 us more."""


class _PeerPort(StunProtocol):
    """A peer's share of a socket, in the place where aioice has a socket of its own."""

    def __init__(self, connection: IceConnection, shared: SharedSocket, on_media: Callable[[bytes], None]) -> None:
        super().__init__(connection)
        self.shared = shared
        self._on_media = on_media
        shared.add_user(connection.local_username, self)

    def on_datagram(self, datagram: bytes, address: Address) -> None:
        if is_media(datagram):
            self._on_media(datagram)
        elif is_stun(datagram):
            self._on_stun(datagram, address)
        elif self.receiver._queue.qsize() < MAX_QUEUED_DATAGRAMS:
            self.receiver.data_received(datagram, self.local_candidate.component)

    def _on_stun(self, datagram: bytes, address: Address) -> None:
        try:
            message = stun.parse_message(datagram)
            if message.message_class == stun.Class.REQUEST:
                self.receiver.request_received(message, address, self)
            elif message.transaction_id in self.transactions:
                self.transactions[message.transaction_id].response_received(message, address)
        except Exception as error:  # noqa: BLE001 - a hostile message leads the parser wherever it likes
            self.shared.strays += 1
            logger.debug("A STUN message from %s:%d cannot be read: %r", *address, error)

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Address]:
        self.shared.add_transaction(request.transaction_id, self)
        try:
            response: tuple[stun.Message, Address] = await super().request(
                request, addr, integrity_key, retransmissions
            )
        finally:
            self.shared.remove_transaction(request.transaction_id)
        self.shared.add_address(addr, self)
        return response

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        # aioice answers with success only whoever knew our password.
        if message.message_class == stun.Class.RESPONSE:
            self.shared.add_address(addr, self)
        self.shared.send(bytes(message), addr)

    async def send_data(self, data: bytes, addr: Address) -> None:
        self.shared.send(data, addr)

    async def close(self) -> None:
        self.shared.remove(self.receiver.local_username, self)


class Peers:
    """Makes peers, and owns what they share: sockets, certificate, fan-outs and the clock of their reports."""

    def __init__(self, settings: WebrtcSettings, relay: VoiceRelay) -> None:
        self.settings = settings
        self.early_media = 0
        """Media datagrams that came before the keys."""
        self.refused_media = 0
        """Media datagrams that failed authentication, were replayed or do not parse."""
        self._relay = relay
        self._sockets: dict[str, SharedSocket] = {}
        self._fanouts: weakref.WeakKeyDictionary[OpusTrack, Fanout] = weakref.WeakKeyDictionary()
        self._slots: list[set[_Peer]] = [set() for _ in range(REPORT_SLOTS)]
        self._clock: asyncio.TimerHandle | None = None
        self._certificate: RTCCertificate | None = None
        self._certificate_made_s = 0.0

    def sender(self, track: OpusTrack) -> SenderPeer:
        """A peer that will publish what a client sends on `track`."""
        return SenderPeer(self, track)

    def receiver(self, track: OpusTrack) -> ReceiverPeer:
        """A peer that will send a client what is published on `track`."""
        return ReceiverPeer(self, track, self.fanout(track))

    def fanout(self, track: OpusTrack) -> Fanout:
        fanout = self._fanouts.get(track)
        if fanout is None:
            fanout = self._fanouts[track] = Fanout(self._relay, track)
        return fanout

    @property
    def fanouts(self) -> list[Fanout]:
        return list(self._fanouts.values())

    def close(self) -> None:
        """Closes the sockets; peers must be closed before."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        for shared in self._sockets.values():
            shared.close()
        self._sockets.clear()

    def sockets(self) -> list[SharedSocket]:
        """One for each host address that this machine has now; those of addresses that are gone close with use."""
        hosts = list(self.settings.host_addresses) or get_host_addresses(use_ipv4=True, use_ipv6=True) or ["127.0.0.1"]
        for host in hosts:
            if host not in self._sockets:
                try:
                    self._sockets[host] = SharedSocket(host)
                except OSError as error:
                    logger.warning("No WebRTC on %s: %s", host, error)
        for host in [host for host, shared in self._sockets.items() if host not in hosts and not shared.is_used]:
            self._sockets.pop(host).close()
        return [self._sockets[host] for host in hosts if host in self._sockets]

    def certificate(self) -> RTCCertificate:
        now_s = time.monotonic()
        if self._certificate is None or now_s - self._certificate_made_s > CERTIFICATE_AGE_S:
            self._certificate, self._certificate_made_s = RTCCertificate.generateCertificate(), now_s
        return self._certificate

    def start_reports(self, peer: _Peer) -> None:
        min(self._slots, key=len).add(peer)
        if self._clock is None:
            self._report(0)

    def stop_reports(self, peer: _Peer) -> None:
        for slot in self._slots:
            slot.discard(peer)

    def _report(self, slot: int) -> None:
        if not any(self._slots):
            self._clock = None
            return
        loop = asyncio.get_running_loop()
        self._clock = loop.call_later(REPORT_INTERVAL_S / REPORT_SLOTS, self._report, (slot + 1) % REPORT_SLOTS)
        now_s = loop.time()
        for peer in self._slots[slot]:
            try:
                peer.report(now_s)
            except Exception:
                logger.exception("%s: no report", peer)


class _Peer:
    """What senders and receivers share: one peer connection with one audio section, on shared sockets.

    `on_connected` is called when ICE and DTLS are done, `on_gone` with the reason when the peer is lost: once, and not
    after `close`.
    """

    def __init__(self, peers: Peers, direction: str) -> None:
        self.on_connected: Callable[[], None] = lambda: None
        self.on_gone: Callable[[str], None] = lambda reason: None
        self._peers = peers
        self._closed = False
        self._candidates = 0
        servers = [RTCIceServer(urls=server.urls) for server in peers.settings.ice_servers]
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        _replace(self._pc, "_RTCPeerConnection__certificates", [peers.certificate()])
        self._transceiver: RTCRtpTransceiver = self._pc.addTransceiver("audio", direction=direction)
        self._transceiver.setCodecPreferences(_OPUS)
        # Called by aiortc when keys are there; its own implementations start a queue, tasks and a decoder thread.
        _replace(self._transceiver.sender, "send", self._on_keys)
        _replace(self._transceiver.receiver, "receive", self._on_keys)
        self._dtls: RTCDtlsTransport = self._transceiver.receiver.transport
        self._dtls._srtp_profiles = _PROFILES
        self._ice: IceConnection = self._dtls.transport._connection
        _replace(self._ice, "get_component_candidates", self._gather)
        _replace(self._ice, "check_complete", self._on_check_complete)
        self._ports: list[_PeerPort] = []
        self._cname = uuid.uuid4().hex
        self._pc.add_listener("connectionstatechange", self._on_connection_state)

    async def add_candidate(self, candidate: CandidateInit | None) -> None:
        """A trickled candidate. Its section does not matter, as all media is bundled. Raises Refused."""
        self._candidates += 1
        if self._candidates > MAX_TRICKLED_CANDIDATES:
            raise Refused("too_many_candidates", f"More than {MAX_TRICKLED_CANDIDATES} candidates are not taken")
        if candidate is None or not candidate.candidate:
            return
        taken = sdp.take_candidate(candidate.candidate)
        if taken is not None:
            await self._dtls.transport.addRemoteCandidate(taken)

    async def close(self) -> None:
        """Says goodbye and closes the connection; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._peers.stop_reports(self)
            self._leave()
            await self._pc.close()

    def report(self, now_s: float) -> None:
        """Sends the peer its RTCP report."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Stops media, while the connection is still open."""

    def _on_media(self, datagram: bytes) -> None:
        session = self._dtls._rx_srtp
        if session is None or self._closed:
            self._peers.early_media += 1
            return
        try:
            if rtp.is_rtcp(datagram):
                self._on_rtcp(session.unprotect_rtcp(datagram))
            else:
                self._on_rtp(session.unprotect(datagram))
        except (pylibsrtp.Error, ValueError):
            # Forged, replayed, or longer than pylibsrtp's buffer.
            self._peers.refused_media += 1

    def _on_rtp(self, datagram: bytes) -> None:
        self._peers.refused_media += 1

    def _on_rtcp(self, datagram: bytes) -> None:
        rtcp = rtp.parse_rtcp(datagram)
        if rtcp is None:
            self._peers.refused_media += 1
            return
        self._read_reports(rtcp)
        if rtcp.byes:
            self._lose("left")

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
        return None if pair is None else (cast(_PeerPort, pair.protocol).shared, pair.remote_addr)

    async def _on_keys(self, parameters: Any) -> None:
        """DTLS is done: media may flow."""
        if not self._closed:
            self._start_media()
            self._peers.start_reports(self)
            self.on_connected()

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

    def _on_connection_state(self) -> None:
        if self._pc.connectionState == "failed":
            self._lose("connection failed")
        elif self._pc.connectionState == "closed":
            self._lose("left")

    def _lose(self, reason: str) -> None:
        if not self._closed:
            self.on_gone(reason)

    async def _gather(self, component: int, addresses: list[str]) -> list[Candidate]:
        """In the place of aioice's, which opens a socket for each address and peer."""
        candidates = []
        for shared in self._peers.sockets():
            port = _PeerPort(self._ice, shared, self._on_media)
            host, number = shared.address
            port.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=host,
                port=number,
                type="host",
            )
            self._ice._protocols.append(port)
            candidates.append(port.local_candidate)
        return candidates

    async def _describe(self) -> str:
        """Our description, complete with candidates."""
        await self._pc.setLocalDescription()
        return str(self._pc.localDescription.sdp)

    async def _take(self, text: str, kind: str) -> None:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=text, type=kind))
        except (InternalError, InvalidAccessError, InvalidStateError, OperationError, ValueError) as error:
            raise Refused("bad_sdp", f"The {kind} does not fit: {error}") from error


def _replace(owner: object, name: str, value: object) -> None:
    """Puts something of ours in the place of a library object's own attribute."""
    if not hasattr(owner, name):
        raise AttributeError(f"{type(owner).__name__} has no {name}: see what became of it, then peers.py")
    setattr(owner, name, value)


class SenderPeer(_Peer):
    """A client that sends: what it sends is published on `track`."""

    def __init__(self, peers: Peers, track: OpusTrack) -> None:
        super().__init__(peers, "recvonly")
        self.track = track
        self._payload_type = -1
        self._reception: rtp.Reception | None = None
        self._ssrc = self._transceiver.sender._ssrc

    async def answer(self, offer: str) -> str:
        """Our answer to the client's offer. Raises Refused."""
        taken = sdp.take_offer(offer)
        await self._take(taken.sdp, "offer")
        self._payload_type = sdp.opus_payload_type(self._transceiver._codecs)
        return sdp.finish_answer(await self._describe(), taken, self._peers.settings)

    @property
    def reception(self) -> rtp.Reception | None:
        """What arrived of the client's present SSRC; None before the first packet."""
        return self._reception

    def report(self, now_s: float) -> None:
        if self._reception is not None:
            self._send_rtcp(rtp.pack_receiver_report(self._ssrc, self._reception.block(now_s)))

    def _start_media(self) -> None:
        pass

    def _on_rtp(self, datagram: bytes) -> None:
        packet = rtp.parse_rtp(datagram)
        if packet is None or packet.payload_type != self._payload_type or not packet.payload:
            self._peers.refused_media += 1
            return
        arrived_s = asyncio.get_running_loop().time()
        if self._reception is None or self._reception.ssrc != packet.ssrc:
            self._reception = rtp.Reception(packet.ssrc)
        self._reception.count(packet.sequence, packet.timestamp, arrived_s)
        sequence, timestamp = self.track.timeline.place(packet.ssrc, packet.sequence, packet.timestamp, arrived_s)
        self.track.publish(OpusPacket(packet.payload, sequence, timestamp, packet.marker, arrived_s))

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        for report in rtcp.sender_reports:
            if self._reception is not None and self._reception.ssrc == report.ssrc:
                self._reception.note_sender_report(report, asyncio.get_running_loop().time())


class ReceiverPeer(_Peer):
    """A client that receives what is published on `track`, from the moment that it is connected."""

    def __init__(self, peers: Peers, track: OpusTrack, fanout: Fanout) -> None:
        super().__init__(peers, "sendonly")
        self.track = track
        self.lane: Lane | None = None
        self.last_report: rtp.ReportBlock | None = None
        """What the receiver last said of loss and jitter."""
        self._fanout = fanout
        self._payload_type = -1
        self._transceiver.sender._ssrc = fanout.ssrc

    async def offer(self) -> str:
        """Our offer to the client."""
        return sdp.finish_offer(await self._describe(), self._peers.settings)

    async def accept(self, answer: str) -> None:
        """The client's answer. Raises Refused."""
        text, self._payload_type = sdp.take_answer(answer)
        await self._take(text, "answer")

    @property
    def packets_sent(self) -> int:
        report = self.lane and self._fanout.sender_report(self.lane, asyncio.get_running_loop().time())
        return report.packets if report else 0

    def report(self, now_s: float) -> None:
        report = self.lane and self._fanout.sender_report(self.lane, now_s)
        if report:
            self._send_rtcp(rtp.pack_sender_report(report, self._cname))

    def _start_media(self) -> None:
        route = self._route()
        if route is not None:
            self.lane = Lane(*route, self._dtls._tx_srtp, self._payload_type)
            self._fanout.add(self.lane)

    def _on_nominated(self) -> None:
        route = self._route()
        if self.lane is not None and route is not None:
            self._fanout.redirect(self.lane, *route)

    def _leave(self) -> None:
        if self.lane is not None:
            self._fanout.remove(self.lane)
            self._send_rtcp(rtp.pack_bye(self._fanout.ssrc))

    def _read_reports(self, rtcp: rtp.Rtcp) -> None:
        for block in rtcp.blocks:
            if block.ssrc == self._fanout.ssrc:
                self.last_report = block
