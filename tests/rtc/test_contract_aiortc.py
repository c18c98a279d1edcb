"""What `voice_streaming/rtc` uses of aiortc beyond what it promises.

Each test fails with a sentence that says where to look when a new version no longer fits.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import pylibsrtp
import pytest
from aiortc import RTCSessionDescription, rtcdtlstransport
from aiortc.rtcdtlstransport import RTCCertificate

from tests.support.contract import INSTALLED, Pair, changed, pair, parameters
from tests.support.rtc_client import gather_on_loopback, new_peer


def test_the_versions_are_those_that_these_contracts_were_read_in() -> None:
    assert version("aiortc").startswith("1.16."), f"read voice_streaming/rtc against {INSTALLED}, then go on here"
    assert version("aioice").startswith("0.13."), f"read voice_streaming/rtc against {INSTALLED}, then go on here"
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
    assert "sha-256" in algorithms, "voice_streaming/rtc/sdp.py reads rtcdtlstransport.X509_DIGEST_ALGORITHMS"


async def test_dtls_goes_through_what_is_set_on_its_ice_transport() -> None:
    where = changed("RTCDtlsTransport awaits transport._recv() and transport._send(data) for each datagram", "dtls.py")
    calls = []
    async with pair() as both:
        ice: Any = both.dtls.transport
        receive, send = ice._recv, ice._send

        async def counted_receive() -> bytes:
            calls.append("receive")
            return bytes(await receive())

        async def counted_send(datagram: bytes) -> None:
            calls.append("send")
            await send(datagram)

        ice._recv, ice._send = counted_receive, counted_send
        await both.connect()
        assert calls.count("send") >= 2, where
        assert calls.count("receive") >= 2, where


async def test_ice_is_connected_by_what_is_set_on_the_connection() -> None:
    where = changed("RTCIceTransport.start awaits self._connection.connect()", "peer.py")
    calls = []
    async with pair() as both:
        connect = both.ice.connect

        async def counted() -> None:
            calls.append(1)
            await connect()

        both.ice.connect = counted  # type: ignore[method-assign]
        await both.connect()
        assert calls == [1], where
        assert both.dtls.transport._connection is both.ice, where


async def test_what_a_second_association_on_the_same_ice_transport_needs() -> None:
    where = "peer.py"
    async with pair() as both:
        await both.connect()
        offering: Any = both.offering
        assert both.dtls in offering._RTCPeerConnection__dtlsTransports, changed(
            "RTCPeerConnection.__dtlsTransports, whose states make connectionState", where
        )
        assert callable(offering._RTCPeerConnection__updateConnectionState), changed(
            "RTCPeerConnection.__updateConnectionState, which listens to statechange", where
        )
        assert both.dtls._role in ("client", "server"), changed("RTCDtlsTransport._role", where)
        assert isinstance(both.dtls._task, asyncio.Future), changed("RTCDtlsTransport._task reads on", where)
        certificate = offering._RTCPeerConnection__certificates[0]
        fresh = rtcdtlstransport.RTCDtlsTransport(both.dtls.transport, [certificate])
        fresh._set_role("server")
        assert (fresh._role, fresh.state, fresh.encrypted, fresh._ssl) == ("server", "new", False, None), changed(
            "RTCDtlsTransport(transport, [certificate]), then _set_role", where
        )
        both.sending.receiver.setTransport(fresh)
        both.sending.sender.setTransport(fresh)
        assert both.sending.receiver.transport is both.sending.sender.transport is fresh, changed(
            "RTCRtpReceiver.setTransport and RTCRtpSender.setTransport", where
        )


async def test_the_state_is_told_before_the_handshake_begins() -> None:
    where = changed("RTCDtlsTransport._ssl is there at statechange 'connecting'", "dtls.py")
    seen = []
    async with pair() as both:

        def on_state() -> None:
            seen.append((both.dtls.state, both.dtls._ssl is not None))

        both.dtls.add_listener("statechange", on_state)
        await both.connect()
    assert seen[:2] == [("connecting", True), ("connected", True)], where


async def test_a_refused_sections_transport_is_looked_at_all_the_same() -> None:
    """Why `sdp` writes ICE credentials, fingerprint, setup and codecs into sections that it refuses."""
    peer, other = new_peer(), new_peer()
    peer.addTransceiver("audio", direction="recvonly")
    gather_on_loopback(peer)
    await peer.setLocalDescription(await peer.createOffer())
    await other.setRemoteDescription(peer.localDescription)
    gather_on_loopback(other)
    await other.setLocalDescription(await other.createAnswer())
    bare = "\r\n".join(line for line in other.localDescription.sdp.splitlines() if not line.startswith("a=setup"))
    with pytest.raises(AttributeError):
        await peer.setRemoteDescription(RTCSessionDescription(bare + "\r\n", "answer"))
    await asyncio.gather(peer.close(), other.close())
