"""What `voice_streaming/peers` uses of aiortc and aioice beyond what they promise, and the facts that it rests on.

Each test fails with a sentence that says where to look when a new version of either no longer fits.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import aioice.ice
import av
import pylibsrtp
import pytest
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, server_reflexive_candidate
from aioice.ice import Connection as IceConnection
from aiortc import RTCRtpSender, RTCRtpTransceiver, RTCSessionDescription, rtcdtlstransport
from aiortc.codecs import get_decoder
from aiortc.contrib.media import MediaRelay
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceGatherer
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from aiortc.sdp import SessionDescription

from tests.support.rtc_client import PayloadTrack, gather_on_loopback, new_peer, wait_until_connected

INSTALLED = f"aiortc {version('aiortc')}, aioice {version('aioice')}"


def changed(what: str, where: str) -> str:
    return f"voice_streaming/peers/{where} relies on this: {what}. See what became of it in {INSTALLED}."


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


class Pair:
    """Two peer connections of aiortc on loopback: one that offers to send, one that answers."""

    def __init__(self) -> None:
        self.offering, self.answering = new_peer(), new_peer()
        self.sending: RTCRtpTransceiver = self.offering.addTransceiver("audio", direction="sendonly")
        opus = [c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus"]
        self.sending.setCodecPreferences(opus)
        self.sender_calls: list[tuple[Any, ...]] = []
        self.receiver_calls: list[tuple[Any, ...]] = []
        self.sending.sender.send = self._record(self.sender_calls)  # type: ignore[method-assign, assignment]
        self.sending.receiver.receive = self._record(self.receiver_calls)  # type: ignore[method-assign, assignment]
        self.dtls: RTCDtlsTransport = self.sending.receiver.transport
        self.ice: IceConnection = self.dtls.transport._connection

    def _record(self, calls: list[tuple[Any, ...]]) -> Callable[..., Awaitable[None]]:
        async def record(*arguments: Any, **named: Any) -> None:
            calls.append((*arguments, *named.items()))

        return record

    async def connect(self, change_answer: Callable[[str], str] = lambda sdp: sdp) -> None:
        gather_on_loopback(self.offering)
        await self.offering.setLocalDescription(await self.offering.createOffer())
        await self.answering.setRemoteDescription(self.offering.localDescription)
        gather_on_loopback(self.answering)
        await self.answering.setLocalDescription(await self.answering.createAnswer())
        answer = change_answer(self.answering.localDescription.sdp)
        await self.offering.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await wait_until_connected(self.offering)
        # `send` and `receive` are awaited right behind the change of state.
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    both = Pair()
    try:
        yield both
    finally:
        await asyncio.gather(both.offering.close(), both.answering.close())


# aiortc: names


def test_the_versions_are_those_that_these_contracts_were_read_in() -> None:
    assert version("aiortc").startswith("1.16."), f"read voice_streaming/peers against {INSTALLED}, then go on here"
    assert version("aioice").startswith("0.13."), f"read voice_streaming/peers against {INSTALLED}, then go on here"
    assert tuple(map(int, version("av").split(".")[:2])) >= (17, 1), "av before 17.1 leaks on every encoded audio frame"


async def test_the_certificate_of_a_peer_connection_can_be_replaced() -> None:
    peer, certificate = new_peer(), RTCCertificate.generateCertificate()
    where = changed("RTCPeerConnection.__certificates, a list of one, read when a transport is made", "peer.py")
    assert isinstance(getattr(peer, "_RTCPeerConnection__certificates", None), list), where
    peer._RTCPeerConnection__certificates = [certificate]  # type: ignore[attr-defined]
    peer.addTransceiver("audio")
    gather_on_loopback(peer)
    await peer.setLocalDescription(await peer.createOffer())
    assert certificate.getFingerprints()[0].value in peer.localDescription.sdp, where
    await peer.close()


async def test_a_certificate_makes_its_context_and_fingerprints_through_methods_of_its_own() -> None:
    """So that one context can serve all handshakes."""
    where = changed("RTCCertificate._create_ssl_context(srtp_profiles) and getFingerprints()", "hub.py")
    assert parameters(RTCCertificate._create_ssl_context) == ["self", "srtp_profiles"], where
    assert parameters(RTCCertificate.getFingerprints) == ["self"], where
    calls = []
    async with pair() as both:
        certificate = both.dtls._RTCDtlsTransport__local_certificate  # type: ignore[attr-defined]
        make = certificate._create_ssl_context

        def create(srtp_profiles: Any) -> Any:
            calls.append(srtp_profiles)
            return make(srtp_profiles)

        certificate._create_ssl_context = create
        await both.connect()
        assert calls == [both.dtls._srtp_profiles], where


async def test_one_ssl_context_serves_two_handshakes() -> None:
    certificate = RTCCertificate.generateCertificate()
    context = certificate._create_ssl_context(srtp_profiles=rtcdtlstransport.SRTP_PROFILES)
    certificate._create_ssl_context = lambda srtp_profiles: context  # type: ignore[method-assign]
    for _ in range(2):
        async with pair() as both:
            both.dtls._RTCDtlsTransport__local_certificate = certificate  # type: ignore[attr-defined]
            await both.connect()
            assert both.dtls.state == "connected", changed("an SSL context may be used again", "hub.py")


async def test_send_and_receive_are_awaited_once_with_one_argument_when_keys_are_there() -> None:
    where = changed("RTCPeerConnection.__connect awaits sender.send(parameters) where the direction sends", "peer.py")
    async with pair() as both:
        assert both.dtls._rx_srtp is None, changed("RTCDtlsTransport._rx_srtp is None before the keys", "peer.py")
        assert both.dtls._tx_srtp is None, changed("RTCDtlsTransport._tx_srtp is None before the keys", "peer.py")
        await both.connect()
        assert [len(call) for call in both.sender_calls] == [1], where
        assert both.receiver_calls == [], where
        assert both.dtls.state == "connected", where
        for name in ("_rx_srtp", "_tx_srtp"):
            session = getattr(both.dtls, name, None)
            assert isinstance(session, pylibsrtp.Session), changed(f"RTCDtlsTransport.{name} is a Session", "peer.py")


async def test_an_answer_that_sends_too_would_start_media_twice() -> None:
    """Why `sdp.take_answer` says `recvonly`, whatever a client says."""
    async with pair() as both:
        await both.connect(lambda sdp: sdp.replace("a=recvonly", "a=sendrecv"))
        assert (len(both.sender_calls), len(both.receiver_calls)) == (1, 1)


async def test_what_stands_behind_a_replaced_send_and_receive_closes_without_having_started() -> None:
    async with pair() as both:
        await both.connect()
        await asyncio.wait_for(both.offering.close(), 5)
        assert both.offering.connectionState == "closed"


async def test_the_negotiated_codecs_stand_in_the_transceiver() -> None:
    where = changed("RTCRtpTransceiver._codecs holds what was negotiated, with the client's payload types", "sender.py")
    answering, offer = new_peer(), new_peer()
    offer.addTransceiver("audio", direction="sendonly")
    gather_on_loopback(offer)
    await offer.setLocalDescription(await offer.createOffer())
    transceiver = answering.addTransceiver("audio", direction="recvonly")
    text = offer.localDescription.sdp.replace(":96 opus", ":111 opus").replace("SAVPF 96", "SAVPF 111")
    await answering.setRemoteDescription(RTCSessionDescription(text, "offer"))
    opus = [codec for codec in getattr(transceiver, "_codecs", []) if codec.mimeType.lower() == "audio/opus"]
    assert [codec.payloadType for codec in opus] == [111], where
    await asyncio.gather(answering.close(), offer.close())


async def test_the_ssrc_that_is_offered_is_the_senders() -> None:
    where = changed("RTCRtpSender._ssrc is what an offer announces, and may be set before", "receiver.py")
    peer = new_peer()
    transceiver = peer.addTransceiver("audio", direction="sendonly")
    assert isinstance(getattr(transceiver.sender, "_ssrc", None), int), where
    transceiver.sender._ssrc = 123_456_789
    gather_on_loopback(peer)
    await peer.setLocalDescription(await peer.createOffer())
    assert "a=ssrc:123456789 " in peer.localDescription.sdp, where
    await peer.close()


async def test_the_srtp_profiles_of_a_transport_are_those_that_it_offers() -> None:
    where = changed("RTCDtlsTransport._srtp_profiles is what the handshake offers, the first one first", "peer.py")
    for name in ("SRTP_AEAD_AES_128_GCM", "SRTP_AEAD_AES_256_GCM", "SRTP_AES128_CM_SHA1_80", "SRTP_PROFILES"):
        assert hasattr(rtcdtlstransport, name), changed(f"rtcdtlstransport.{name}", "peer.py")
    async with pair() as both:
        assert isinstance(getattr(both.dtls, "_srtp_profiles", None), list), where
        both.dtls._srtp_profiles = [rtcdtlstransport.SRTP_AES128_CM_SHA1_80]
        await both.connect()
        assert both.dtls._ssl is not None
        assert both.dtls._ssl.get_selected_srtp_profile() == b"SRTP_AES128_CM_SHA1_80", where


async def test_keys_are_made_only_after_the_fingerprint_was_checked() -> None:
    """Peers take `_rx_srtp` as a sign that the other side is the one whose description we have."""
    both = Pair()
    with pytest.raises(AssertionError, match="failed"):
        await both.connect(lambda sdp: sdp.replace("fingerprint:sha-256 ", "fingerprint:sha-256 00:"))
    assert both.dtls._rx_srtp is None, changed("RTCDtlsTransport validates the peer before _setup_srtp", "peer.py")
    assert both.sender_calls == []
    await asyncio.gather(both.offering.close(), both.answering.close())


def test_the_digests_that_sdp_checks_against_are_aiortcs() -> None:
    algorithms = getattr(rtcdtlstransport, "X509_DIGEST_ALGORITHMS", {})
    assert "sha-256" in algorithms, "voice_streaming/sdp.py reads rtcdtlstransport.X509_DIGEST_ALGORITHMS"


# aioice: names


async def test_the_ice_connection_of_a_transport() -> None:
    where = changed("RTCIceTransport._connection is an aioice Connection", "peer.py")
    peer = new_peer()
    transport = peer.addTransceiver("audio").receiver.transport.transport
    connection = getattr(transport, "_connection", None)
    assert isinstance(connection, IceConnection), where
    assert transport.iceGatherer._connection is connection, where
    for name, kind in {"_nominated": dict, "_protocols": list, "_local_candidates": list}.items():
        assert isinstance(getattr(connection, name, None), kind), changed(f"Connection.{name}", "peer.py")
    for name in ("_local_candidates_start", "_local_candidates_end"):
        assert getattr(connection, name, None) is False, changed(f"Connection.{name} is False at first", "peer.py")
    assert connection.stun_server is None, changed("Connection.stun_server", "peer.py")
    assert connection.remote_password is None, changed("Connection.remote_password", "consent.py")
    assert isinstance(connection.local_username, str), changed("Connection.local_username", "port.py")
    await peer.close()


async def test_gathering_goes_through_what_is_set_on_the_connection() -> None:
    peer = new_peer()
    peer.addTransceiver("audio")
    connection: Any = peer.getTransceivers()[0].receiver.transport.transport._connection
    called: list[str] = []
    gather = connection.gather_candidates

    async def gather_candidates() -> None:
        called.append("gather_candidates")
        await gather()

    async def get_component_candidates(component: int, addresses: list[str]) -> list[Candidate]:
        called.append("get_component_candidates")
        return [Candidate("1", component, "udp", 1, "127.0.0.1", 9, "host")]

    connection.gather_candidates = gather_candidates
    connection.get_component_candidates = get_component_candidates
    await peer.setLocalDescription(await peer.createOffer())
    assert called == ["gather_candidates", "get_component_candidates"], changed(
        "RTCIceGatherer awaits connection.gather_candidates(), and that get_component_candidates(component, addresses)",
        "peer.py",
    )
    assert [candidate.port for candidate in connection._local_candidates] == [9], changed(
        "Connection._local_candidates is what a description lists", "peer.py"
    )
    assert connection._local_candidates_start, changed("_local_candidates_start, set when gathering begins", "peer.py")
    assert connection._local_candidates_end, changed("_local_candidates_end, set when gathering is done", "peer.py")
    assert " 9 typ host" in peer.localDescription.sdp
    await peer.close()


async def test_a_nomination_goes_through_check_complete() -> None:
    where = changed("Connection.check_complete(pair), called on the instance, sets _nominated[1]", "peer.py")
    assert parameters(IceConnection.check_complete) == ["self", "pair"], where
    nominated: list[CandidatePair] = []
    async with pair() as both:

        def check_complete(pair: CandidatePair) -> None:
            IceConnection.check_complete(both.ice, pair)
            nominated.extend(both.ice._nominated.values())

        both.ice.check_complete = check_complete  # type: ignore[method-assign]
        await both.connect()
        chosen = both.ice._nominated.get(1)
        assert chosen is not None, where
        assert chosen in nominated, where
        assert chosen.protocol in both.ice._protocols, where
        assert chosen.remote_addr[0] == "127.0.0.1", changed("CandidatePair.remote_addr is (host, port)", "peer.py")


async def test_the_consent_task_is_made_of_what_is_set_on_the_connection() -> None:
    where = changed(
        "Connection.connect makes a task of self.query_consent(), and close takes one that is done", "peer.py"
    )
    calls = []
    async with pair() as both:

        async def query_consent() -> None:
            calls.append(1)

        both.ice.query_consent = query_consent  # type: ignore[method-assign]
        await both.connect()
        await asyncio.sleep(0)
        assert calls == [1], where
        await asyncio.wait_for(both.offering.close(), 5)


async def test_a_request_for_consent_is_built_by_the_connection() -> None:
    where = changed("Connection.build_request(pair, nominate) is an unsigned binding request", "consent.py")
    assert parameters(IceConnection.build_request) == ["self", "pair", "nominate"], where
    async with pair() as both:
        await both.connect()
        request = both.ice.build_request(both.ice._nominated[1], nominate=False)
        assert request.message_class == stun.Class.REQUEST, where
        assert "MESSAGE-INTEGRITY" not in request.attributes, where
        assert request.attributes["USERNAME"] == f"{both.ice.remote_username}:{both.ice.local_username}", where
        assert "USE-CANDIDATE" not in request.attributes, where


async def test_a_stun_protocol_is_made_without_a_socket() -> None:
    where = changed("StunProtocol(connection) with .receiver, .transactions and no socket yet", "port.py")
    assert parameters(StunProtocol.__init__) == ["self", "receiver"], where
    connection = IceConnection(ice_controlling=True)
    protocol = StunProtocol(connection)
    assert protocol.receiver is connection, where
    assert protocol.transactions == {}, where


def test_the_calls_between_a_protocol_and_its_connection_have_the_known_arguments() -> None:
    expected: dict[Callable[..., Any], list[str]] = {
        StunProtocol.request: ["self", "request", "addr", "integrity_key", "retransmissions"],
        StunProtocol.send_stun: ["self", "message", "addr"],
        StunProtocol.send_data: ["self", "data", "addr"],
        StunProtocol.close: ["self"],
        IceConnection.request_received: ["self", "message", "addr", "protocol"],
        IceConnection.data_received: ["self", "data", "component"],
        IceConnection.get_component_candidates: ["self", "component", "addresses", "timeout"],
        stun.Transaction.response_received: ["self", "message", "addr"],
        stun.Message.add_message_integrity: ["self", "key"],
        stun.Message.check_message_integrity: ["self", "key"],
        stun.parse_message: ["data"],
        server_reflexive_candidate: ["protocol", "stun_server"],
    }
    for function, names in expected.items():
        assert parameters(function) == names, changed(f"{function.__qualname__}({', '.join(names)})", "port.py")
    for awaited in (StunProtocol.request, StunProtocol.send_data, StunProtocol.close):
        assert inspect.iscoroutinefunction(awaited), changed(f"{awaited.__qualname__} is awaited", "port.py")
    for called in (StunProtocol.send_stun, IceConnection.request_received, IceConnection.data_received):
        assert not inspect.iscoroutinefunction(called), changed(f"{called.__qualname__} is not awaited", "port.py")


class Port(StunProtocol):
    """A protocol without a socket: what it is asked to send, it keeps."""

    def __init__(self, connection: IceConnection) -> None:
        super().__init__(connection)
        self.sent: list[tuple[stun.Message, tuple[str, int]]] = []
        self.closed = False
        self.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", "127.0.0.1"),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host"),
            host="127.0.0.1",
            port=9,
            type="host",
        )

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        self.sent.append((message, addr))

    async def close(self) -> None:
        self.closed = True


def check_for(connection: IceConnection, password: str, **attributes: Any) -> stun.Message:
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes.update({"USERNAME": f"{connection.local_username}:them", "PRIORITY": 1, **attributes})
    request.add_message_integrity(password.encode())
    return stun.parse_message(bytes(request))


async def test_success_is_answered_only_to_who_knows_our_password() -> None:
    """`PeerPort.send_stun` takes the address of a success as proven: media from there is taken from then on."""
    where = changed("Connection.request_received answers RESPONSE only to an authentic request", "port.py")
    connection = IceConnection(ice_controlling=True)
    port = Port(connection)
    address = ("127.0.0.1", 5)
    connection.request_received(check_for(connection, "wrong password here!!!!"), address, port)
    other_name = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    other_name.attributes.update({"USERNAME": "other:them", "PRIORITY": 1})
    other_name.add_message_integrity(connection.local_password.encode())
    connection.request_received(stun.parse_message(bytes(other_name)), address, port)
    connection.request_received(stun.Message(stun.Method.BINDING, stun.Class.REQUEST), address, port)
    assert {message.message_class for message, _ in port.sent} == {stun.Class.ERROR}, where
    connection.request_received(check_for(connection, connection.local_password), address, port)
    message, to = port.sent[-1]
    assert (message.message_class, to) == (stun.Class.RESPONSE, address), where


async def test_a_request_of_the_protocol_is_a_transaction_that_its_answer_ends() -> None:
    where = changed("StunProtocol.request sends by self.send_stun and waits in self.transactions", "port.py")
    port = Port(IceConnection(ice_controlling=True))
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    asked = asyncio.create_task(port.request(request, ("127.0.0.1", 5), integrity_key=b"password"))
    await asyncio.sleep(0)
    assert [message for message, _ in port.sent] == [request], where
    transaction = port.transactions[request.transaction_id]
    forged = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
    transaction.response_received(forged, ("127.0.0.1", 5))
    await asyncio.sleep(0)
    assert not asked.done(), changed("Transaction.response_received ignores what is not authentic", "port.py")
    forged.add_message_integrity(b"password")
    answer = stun.parse_message(bytes(forged))
    transaction.response_received(answer, ("127.0.0.1", 5))
    assert await asyncio.wait_for(asked, 5) == (answer, ("127.0.0.1", 5)), where
    assert port.transactions == {}, where


async def test_protocols_are_closed_with_their_connection() -> None:
    connection = IceConnection(ice_controlling=True)
    port = Port(connection)
    connection._protocols.append(port)
    await connection.close()
    assert port.closed, changed("Connection.close awaits close() of all in _protocols", "port.py")
    assert connection._protocols == [], changed("Connection.close clears _protocols", "peer.py")
    assert connection._nominated == {}, changed("Connection.close clears _nominated", "peer.py")
    before = len(port.sent)
    connection.request_received(check_for(connection, connection.local_password), ("127.0.0.1", 5), port)
    assert len(port.sent) == before, changed("a closed Connection answers no request", "port.py")


async def test_the_monitor_of_a_closed_connection_never_rests() -> None:
    """Which is why `Peer` gives it an event of its own: it would stop the whole program."""
    where = changed("RTCIceTransport._monitor asks connection.get_event(), which is None once closed", "peer.py")
    peer = new_peer()
    transport: Any = peer.addTransceiver("audio").receiver.transport.transport
    connection = transport._connection
    await connection.close()
    assert await connection.get_event() is None, where
    asked = []

    async def get_event() -> Any:
        asked.append(1)
        return None if len(asked) < 100 else aioice.ice.ConnectionClosed()

    connection.get_event = get_event
    await transport._monitor()
    assert len(asked) == 100, "aiortc is mended: `Peer._next_ice_event` is not needed any more"
    await peer.close()


async def test_received_data_waits_in_a_queue_without_a_bound() -> None:
    """Which is why `PeerPort` counts before it adds."""
    connection = IceConnection(ice_controlling=True)
    for _ in range(1_000):
        connection.data_received(b"dtls", 1)
    assert connection._queue.qsize() == 1_000, changed("Connection._queue holds what data_received gets", "port.py")


def test_whatever_a_hostile_message_holds_is_a_value_error_or_worse() -> None:
    """Which is why `PeerPort` catches everything."""
    with pytest.raises(ValueError, match="STUN"):
        stun.parse_message(bytes(10))
    username = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes={"USERNAME": "ab"})
    with pytest.raises(UnicodeDecodeError):
        stun.parse_message(bytes(username).replace(b"ab", b"\xff\xff"))


# Facts that the design rests on (DESIGN section 2)


async def test_a_description_is_complete_as_soon_as_it_is_set() -> None:
    """aiortc never trickles: there is nothing to wait for before an offer or answer goes out."""
    peer = new_peer()
    peer.addTransceiver("audio")
    gather_on_loopback(peer)
    await peer.setLocalDescription(await peer.createOffer())
    (section,) = SessionDescription.parse(peer.localDescription.sdp).media
    assert peer.iceGatheringState == "complete"
    assert section.ice_candidates
    assert section.ice_candidates_complete
    await peer.close()


async def test_the_default_configuration_names_a_public_stun_server() -> None:
    """Which is why every peer connection here is given its servers, if only an empty list."""
    assert any("stun:" in str(server.urls) for server in RTCIceGatherer.getDefaultIceServers())
    silent = new_peer()
    silent.addTransceiver("audio")
    assert silent.getTransceivers()[0].receiver.transport.transport._connection.stun_server is None
    await silent.close()


def delays_of(buffer: JitterBuffer, numbers: list[int]) -> list[int]:
    """How many packets behind the newest each frame is when it leaves the buffer."""
    delays = []
    for number in numbers:
        packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=number * 960)
        packet._data = b"voice"  # type: ignore[attr-defined]
        _, frame = buffer.add(packet)
        if frame is not None:
            delays.append(number - frame.timestamp // 960)
    return delays


async def test_aiortc_delays_audio_and_one_lost_packet_more_than_triples_it_for_good() -> None:
    """Which is why received packets never see its jitter buffer."""
    peer = new_peer()
    receiver = peer.addTransceiver("audio").receiver
    buffer = receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
    assert (buffer._capacity, buffer._prefetch) == (16, 4)
    await peer.close()
    numbers = list(range(200))
    assert set(delays_of(JitterBuffer(16, 4), numbers)) == {4}, "80 ms"
    after_loss = delays_of(JitterBuffer(16, 4), [number for number in numbers if number != 50])
    assert set(after_loss[:40]) == {4}
    assert set(after_loss[100:]) == {14}, "280 ms"


async def test_aiortcs_own_receive_starts_a_decoder_thread_for_each_peer() -> None:
    """Which is why `receive` is replaced, and why receivers are offered `sendonly`."""
    both = [new_peer(), new_peer()]
    both[0].addTrack(PayloadTrack())
    gather_on_loopback(both[0])
    before = threading.active_count()
    await both[0].setLocalDescription(await both[0].createOffer())
    await both[1].setRemoteDescription(both[0].localDescription)
    gather_on_loopback(both[1])
    await both[1].setLocalDescription(await both[1].createAnswer())
    await both[0].setRemoteDescription(both[1].localDescription)
    await asyncio.gather(*map(wait_until_connected, both))
    await asyncio.sleep(0.05)
    assert threading.active_count() > before
    await asyncio.gather(*(peer.close() for peer in both))


async def test_aiortcs_relay_reads_on_when_nobody_listens_and_leaves_late_comers_waiting() -> None:
    """Which is why `VoiceRelay` has a pump of its own."""
    relay, source = MediaRelay(), PayloadTrack()
    proxy = relay.subscribe(source)
    source.put(b"voice", 0)
    assert isinstance(await proxy.recv(), av.Packet)
    assert proxy._queue.maxsize == 0, "no bound"  # type: ignore[attr-defined]
    late = relay.subscribe(source)
    proxy.stop()
    source.put(b"for nobody", 960)
    await asyncio.sleep(0.01)
    assert source._packets.qsize() == 0
    source.end()
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late.recv(), 0.1)
    with pytest.raises(MediaStreamError):
        await proxy.recv()


def test_an_empty_payload_poisons_the_decoder_that_gets_it() -> None:
    """Which is why the tap drops empty payloads."""
    codec = next(c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus")
    decoder = get_decoder(RTCRtpCodecParameters(codec.mimeType, codec.clockRate, codec.channels, payloadType=96))
    silence = b"\xf8\xff\xfe"
    assert decoder.decode(JitterFrame(data=silence, timestamp=0))
    with pytest.raises(Exception, match=r"."):  # noqa: PT012 - whichever of the two raises
        decoder.decode(JitterFrame(data=b"", timestamp=960))
        decoder.decode(JitterFrame(data=silence, timestamp=1_920))
