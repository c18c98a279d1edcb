"""Peers and clients in one process: real ICE, DTLS and SRTP on loopback, and every packet looked at."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from aioice import Candidate
from aioice.ice import CandidatePair

from tests.support.stage import PAYLOADS, Client, on_stage, until
from voice_streaming.rtc import Peers, rtp
from voice_streaming.settings.model import WebrtcSettings
from voice_streaming.streams.relay import VoiceRelay


async def test_packets_pass_from_a_sender_to_every_receiver_byte_for_byte() -> None:
    before = threading.active_count()
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        listeners = [await stage.receiver() for _ in range(4)]
        for payload in PAYLOADS:
            talker.say(payload)
            await asyncio.sleep(0.001)
        for _, listener in listeners:
            await listener.packets.wait_for(len(PAYLOADS))
            assert listener.packets.payloads() == PAYLOADS
            first = listener.packets[0]
            steps = [
                (packet.sequence - first.sequence, packet.timestamp - first.timestamp) for packet in listener.packets
            ]
            assert steps == [(number, number * 960) for number in range(len(PAYLOADS))]
        assert sender.reception is not None
        assert (sender.reception.received, sender.reception.lost) == (len(PAYLOADS), 0)
        assert [peer.statistics()["packets_sent"] for peer, _ in listeners] == [len(PAYLOADS)] * 4
        assert stage.track.packets == len(PAYLOADS)
        # The clients' receivers, which are aiortc's, have a decoder's thread each; peers have none.
        names = [thread.name for thread in threading.enumerate()]
        assert sum("decoder" in name for name in names) == len(listeners)
        assert threading.active_count() - before == len(listeners)
        assert stage.peers.endpoint.refused_media == 0


async def test_all_peers_share_one_socket() -> None:
    async with on_stage() as stage:
        destinations = [(await stage.receiver())[0].destination for _ in range(3)]
        assert {destination.shared for destination in destinations if destination is not None} == {stage.shared}


async def test_reports_go_out_with_true_counters_and_come_in() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        receiver, listener = await stage.receiver()
        for payload in PAYLOADS:
            talker.say(payload)
            await asyncio.sleep(0.001)
        await listener.packets.wait_for(len(PAYLOADS))
        ssrc = listener.packets[0].ssrc
        listener.rtcp.clear()
        talker.rtcp.clear()
        await until(lambda: any(compound.sender_reports for compound in listener.rtcp), "a sender report", 8)
        await until(lambda: any(compound.blocks for compound in talker.rtcp), "a receiver report", 8)
        (report,) = next(compound.sender_reports for compound in listener.rtcp if compound.sender_reports)
        assert (report.ssrc, report.packets) == (ssrc, len(PAYLOADS))
        assert report.octets == sum(map(len, PAYLOADS))
        assert 0 <= (report.rtp_timestamp - listener.packets[-1].timestamp & 0xFFFFFFFF) < 20 * 48_000
        (block,) = next(compound.blocks for compound in talker.rtcp if compound.blocks)
        assert sender.reception is not None
        assert (block.ssrc, block.packets_lost, block.fraction_lost) == (sender.reception.ssrc, 0, 0)
        assert block.highest_sequence & 0xFFFF == sender.reception.block(0.0).highest_sequence & 0xFFFF

        assert receiver.last_report is None
        said = rtp.ReportBlock(ssrc, 25, 7, 1234, 99, 0, 0)
        await listener.send_rtcp(rtp.pack_receiver_report(1, said._replace(ssrc=ssrc ^ 1), "listener"))
        await listener.send_rtcp(rtp.pack_receiver_report(1, said, "listener"))
        await until(lambda: receiver.last_report is not None, "the receiver's report")
        assert receiver.last_report == said


async def test_a_senders_report_dates_the_report_to_it() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.heard_sender()
        assert sender.reception is not None
        report = rtp.SenderReport(sender.reception.ssrc, 0x1122334455667788, 0, 1, 5)
        await talker.send_rtcp(rtp.pack_sender_report(report, "talker"))
        await until(lambda: sender.reception is not None and sender.reception.last_report != 0, "the sender's report")
        assert sender.reception.last_report == 0x33445566


async def test_a_change_of_nomination_redirects() -> None:
    async with on_stage() as stage:
        peer, listener = await stage.receiver()
        stage.publish(b"here")
        await listener.packets.wait_for(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            elsewhere.bind(("127.0.0.1", 0))
            elsewhere.setblocking(False)
            host, port = elsewhere.getsockname()
            remote = Candidate("1", 1, "udp", 2**31 - 1, host, port, "host")
            remote._network_host = host
            pair = CandidatePair(peer._ice.connection._nominated[1].protocol, remote)
            pair.nominated, pair.state = True, CandidatePair.State.SUCCEEDED
            peer._ice.connection.check_complete(pair)
            stage.publish(b"there")
            packet = rtp.parse_rtp(listener.dtls._rx_srtp.unprotect(elsewhere.recv(2_048)))
        assert packet is not None
        assert packet.payload == b"there"
        assert packet.sequence == listener.packets[0].sequence + 1
        assert len(listener.packets) == 1


async def test_an_address_that_is_not_ours_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers(WebrtcSettings(host_addresses=("192.0.2.1", "127.0.0.1")), VoiceRelay())
    assert [shared.address[0] for shared in peers.endpoint.sockets.open()] == ["127.0.0.1"]
    assert "No WebRTC on 192.0.2.1" in caplog.text
    peers.close()


async def test_ipv6_only() -> None:
    async with on_stage() as stage:
        stage.peers.endpoint.sockets.settings = WebrtcSettings(host_addresses=("::1",))
        peer, client = stage.peers.receiver(stage.track), Client()
        stage._open += [peer, client.peer]
        offer = await peer.offer()
        assert " ::1 " in offer
        (shared,) = stage.peers.endpoint.sockets.open()
        assert shared.address[0] == "::1"


async def test_peers_share_a_certificate() -> None:
    async with on_stage() as stage:
        offers = []
        for _ in range(2):
            peer = stage.peers.receiver(stage.track)
            stage._open.append(peer)
            offers.append(await peer.offer())
        prints = [[line for line in offer.splitlines() if "fingerprint" in line] for offer in offers]
        assert prints[0] == prints[1] != []


async def test_callers_who_ask_at_once_whether_a_client_is_there_share_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check replaces the one before, so that one for each caller would leave most of them without an answer."""
    async with on_stage() as stage:
        peer, _ = await stage.sender()
        assert peer._consent is not None
        check, checks = peer._consent.check, 0

        def counted(*arguments: Any) -> None:
            nonlocal checks
            checks += 1
            check(*arguments)

        monkeypatch.setattr(peer._consent, "check", counted)
        assert all(await asyncio.gather(*(peer.answers(10) for _ in range(20))))
        assert checks == 1


async def test_a_client_that_is_there_answers_a_check_and_one_that_is_gone_does_not() -> None:
    async with on_stage() as stage:
        peer, client = await stage.sender()
        assert await peer.answers(1)
        # Gone without a word: its socket is closed, and nothing that comes for it is read.
        client.dtls.transport._connection._nominated[1].protocol.transport.abort()
        assert not await peer.answers(0.2)
        fresh = stage.peers.sender(stage.track)
        assert not await fresh.answers(0.2)
        await fresh.close()
