"""Who offers first, and further offers: of the same connection, and of one that looks like it."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCCertificate

from tests.support.rtc_client import gather_on_loopback, record_packets, wait_until_connected
from tests.support.stage import PACKET_S, PAYLOADS, Client, on_stage, until
from voice_streaming.process.refusal import Refused


async def reoffer(client: Client) -> str:
    """The client's next offer; aiortc writes a new o= line each time."""
    await client.peer.setLocalDescription(await client.peer.createOffer())
    return client.peer.localDescription.sdp


def credentials(sdp: str) -> list[str]:
    return re.findall(r"a=ice-(?:ufrag|pwd):(\S+)", sdp)


# Either side may offer


async def test_a_client_that_offers_to_receive_is_sent_to() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        client.peer.addTransceiver("audio", direction="recvonly")
        client.peer.addTransceiver("video", direction="recvonly")
        gather_on_loopback(client.peer)
        record_packets(client.peer.getTransceivers()[0].receiver, client.packets)
        answer = await peer.answer(await reoffer(client))
        assert [line for line in answer.splitlines() if line in ("a=sendonly", "a=inactive")] == [
            "a=sendonly",
            "a=inactive",
        ]
        await client.take_answer(answer)
        await until(lambda: peer.destination is not None, "the receiver has a destination")
        for payload in PAYLOADS:
            stage.publish(payload)
        await client.packets.wait_for(len(PAYLOADS))
        assert client.packets.payloads() == PAYLOADS


async def test_we_may_offer_to_receive() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.sender(stage.track), Client()
        stage._open += [peer, client.peer]
        offer = await peer.offer()
        assert "a=recvonly" in offer
        await client.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        client.peer.addTrack(client.voice)
        gather_on_loopback(client.peer)
        await client.peer.setLocalDescription(await client.peer.createAnswer())
        await peer.accept(client.peer.localDescription.sdp)
        await wait_until_connected(client.peer)
        client.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")


async def test_an_offer_for_the_other_direction_is_refused() -> None:
    async with on_stage() as stage:
        sender, receiver, client = stage.peers.sender(stage.track), stage.peers.receiver(stage.track), Client()
        stage._open += [sender, receiver, client.peer]
        offer = await client.offer()
        for peer, text in ((receiver, offer), (sender, offer.replace("a=sendonly", "a=recvonly"))):
            with pytest.raises(Refused) as refused:
                await peer.answer(text)
            assert refused.value.code == "no_opus"


# Renegotiation


async def test_a_renegotiation_loses_no_packet() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        before = talker.peer.localDescription.sdp
        answers = []
        for number, payload in enumerate(PAYLOADS):
            talker.say(payload)
            if number % 10 == 5:
                offer = await reoffer(talker)
                assert credentials(offer) == credentials(before)
                assert sender.continues(offer)
                answers.append(await sender.answer(offer))
                await talker.take_answer(answers[-1])
            await asyncio.sleep(PACKET_S)
        await until(lambda: stage.track.packets == len(PAYLOADS), "every packet")
        assert stage.gone == []
        assert len({tuple(credentials(answer)) for answer in answers}) == 1
        origins = [re.findall(r"o=- (\d+) (\d+) ", answer)[0] for answer in answers]
        assert len({session for session, _ in origins}) == 1
        assert len({version for _, version in origins}) == 5


async def test_a_receiver_that_offers_again_keeps_its_media() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        client.peer.addTransceiver("audio", direction="recvonly")
        gather_on_loopback(client.peer)
        record_packets(client.peer.getTransceivers()[0].receiver, client.packets)
        await client.take_answer(await peer.answer(await reoffer(client)))
        await until(lambda: peer.destination is not None, "the receiver has a destination")
        destination = peer.destination
        for number, payload in enumerate(PAYLOADS):
            stage.publish(payload)
            if number == 20:
                await client.take_answer(await peer.answer(await reoffer(client)))
            await asyncio.sleep(PACKET_S)
        await client.packets.wait_for(len(PAYLOADS))
        assert client.packets.payloads() == PAYLOADS
        assert peer.destination is destination
        assert len(stage.peers.fanout(stage.track)) == 1


async def test_another_payload_type_is_used_from_the_answer_on() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        offer = (await reoffer(talker)).replace("SAVPF 96 ", "SAVPF 112 ").replace(":96 opus", ":112 opus")
        answer = await sender.answer(offer)
        assert "a=rtpmap:112 opus/48000/2" in answer
        assert sender._payload_type == 112


async def test_a_client_may_pause_and_go_on() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        offer = await reoffer(talker)
        paused = await sender.answer(offer.replace("a=sendonly", "a=inactive"))
        assert "a=inactive" in paused
        assert "a=recvonly" not in paused
        answer = await sender.answer(offer)
        assert "a=recvonly" in answer
        await talker.take_answer(answer)
        talker.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")


@pytest.mark.parametrize("spoil", ["nothing", "ice-pwd", "rtpmap"])
async def test_a_bad_further_offer_changes_nothing(spoil: str) -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        offer = talker.peer.localDescription.sdp
        with pytest.raises(Refused):
            await sender.answer("" if spoil == "nothing" else re.sub(f"a={spoil}.*", "", offer))
        assert sender._next_ice is None
        talker.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")


# A new connection that looks like the old one


class Reloaded(Client):
    """A client with a certificate of its own, which several connections share."""

    def __init__(self, certificate: RTCCertificate) -> None:
        super().__init__()
        self.peer._RTCPeerConnection__certificates = [certificate]  # type: ignore[attr-defined]


async def test_a_new_connection_with_the_old_certificate_is_told_apart() -> None:
    async with on_stage() as stage:
        certificate = RTCCertificate.generateCertificate()
        peer, old, new = stage.peers.sender(stage.track), Reloaded(certificate), Reloaded(certificate)
        stage._open += [peer, old.peer, new.peer]
        await old.take_answer(await peer.answer(await old.offer()))
        await wait_until_connected(old.peer)
        offer = await new.offer()
        other_session = re.sub(r"o=- \d+", "o=- 4711", offer)
        assert not peer.continues(other_session)
        same_session = re.sub(r"o=- \d+", re.findall(r"o=- \d+", old.peer.localDescription.sdp)[0], offer)
        assert peer.continues(same_session)
        assert not peer.continues("rubbish")


async def test_the_tls_id_tells_connections_apart() -> None:
    async with on_stage() as stage:
        certificate = RTCCertificate.generateCertificate()
        peer, old = stage.peers.sender(stage.track), Reloaded(certificate)
        stage._open += [peer, old.peer]
        offer = await old.offer()
        with_id = offer + "a=tls-id:91bbf309c0990a6bec11e38ba2933cee\r\n"
        answer = await peer.answer(with_id)
        assert answer.count("a=tls-id:") == 1
        restarted = re.sub("a=ice-ufrag:.*", "a=ice-ufrag:restarted", with_id)
        assert peer.continues(restarted)
        assert not peer.continues(restarted.replace("91bb", "92bb"))


async def test_a_new_connection_that_cannot_be_told_apart_gets_an_association_of_its_own() -> None:
    """Its ClientHello comes with the new ICE credentials: media goes on."""
    async with on_stage() as stage:
        certificate = RTCCertificate.generateCertificate()
        peer, old, new = stage.peers.sender(stage.track), Reloaded(certificate), Reloaded(certificate)
        stage._open += [peer, old.peer, new.peer]
        peer.on_gone = stage.gone.append
        offer = (await old.offer()).replace("a=setup:actpass", "a=setup:active")
        await old.take_answer(await peer.answer(offer))
        await wait_until_connected(old.peer)
        old.say(b"old")
        await until(lambda: stage.track.packets == 1, "the old connection's voice")
        association = peer._dtls
        further = (await new.offer()).replace("a=setup:actpass", "a=setup:active")
        further = re.sub(r"o=- \d+", re.findall(r"o=- \d+", offer)[0], further)
        assert peer.continues(further)
        await new.take_answer(await peer.answer(further))
        await wait_until_connected(new.peer)
        new.say(b"new")
        await until(lambda: stage.track.packets == 2, "the new connection's voice")
        assert peer._dtls is not association
        assert stage.gone == []
        await new.peer.close()
        await until(lambda: stage.gone == ["left"], "the new connection's end")


@pytest.mark.parametrize(
    ("kinds", "policy"),
    [
        (("audio", "video"), RTCBundlePolicy.BALANCED),
        (("audio", "video"), RTCBundlePolicy.MAX_BUNDLE),
        (("video", "audio"), RTCBundlePolicy.MAX_BUNDLE),
    ],
)
async def test_a_client_of_aiortc_with_video_sends_its_audio(kinds: tuple[str, str], policy: RTCBundlePolicy) -> None:
    """With video first and transports of their own it waits for that of the section that was refused."""
    async with on_stage() as stage:
        peer, client = stage.peers.sender(stage.track), Client()
        client.peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
        stage._open += [peer, client.peer]
        for kind in kinds:
            client.peer.addTransceiver(client.voice if kind == "audio" else kind, direction="sendonly")
        gather_on_loopback(client.peer)
        await client.take_answer(await peer.answer(await reoffer(client)))
        client.say(b"voice")
        await until(lambda: stage.track.packets == 1, "the voice")
