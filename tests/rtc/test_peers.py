"""Peers and clients in one process: real ICE, DTLS and SRTP on loopback, and every packet looked at."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import weakref
from typing import Any

import pytest
from aioice import Candidate
from aioice.ice import CandidatePair

from tests.support.stage import PAYLOADS, Client, on_stage, until
from voice_streaming.process.refusal import Refused
from voice_streaming.rtc import Peers, rtp
from voice_streaming.rtc.peer import Peer
from voice_streaming.settings.model import WebrtcSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack


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
        sender, talker = await stage.sender()
        talker.say(b"voice")
        await until(lambda: sender.reception is not None, "the first packet")
        assert sender.reception is not None
        report = rtp.SenderReport(sender.reception.ssrc, 0x1122334455667788, 0, 1, 5)
        await talker.send_rtcp(rtp.pack_sender_report(report, "talker"))
        await until(lambda: sender.reception is not None and sender.reception.last_report != 0, "the sender's report")
        assert sender.reception.last_report == 0x33445566


async def test_a_goodbye_is_reported_once() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        talker.say(b"voice")
        await until(lambda: sender.reception is not None, "the first packet")
        assert sender.reception is not None
        for _ in range(3):
            await talker.send_rtcp(rtp.pack_bye(sender.reception.ssrc, "talker"))
        await talker.peer.close()
        await until(lambda: bool(stage.gone), "the goodbye")
        await asyncio.sleep(0.1)
        assert stage.gone == ["left"]


async def test_a_receiver_that_closes_is_gone() -> None:
    async with on_stage() as stage:
        _, listener = await stage.receiver()
        await listener.peer.close()
        await until(lambda: bool(stage.gone), "the receiver's end")
        assert stage.gone == ["left"]


async def test_a_peer_that_closes_says_goodbye_and_leaves_nothing_behind() -> None:
    async with on_stage() as stage:
        sender, _ = await stage.sender()
        receivers = [await stage.receiver() for _ in range(2)]
        shared, fanout = stage.shared, stage.peers.fanout(stage.track)
        assert len(shared._users) == 3
        stage.publish(b"voice")
        await asyncio.gather(sender.close(), *(peer.close() for peer, _ in receivers))
        await asyncio.gather(sender.close(), *(peer.close() for peer, _ in receivers))
        for _, client in receivers:
            await until(lambda client=client: client.goodbyes() == [fanout.ssrc], "a goodbye")  # type: ignore[misc]
        assert (shared._users, shared._addresses, shared._transactions) == ({}, {}, {})
        assert not shared.is_used
        assert len(fanout) == 0
        assert not any(stage.peers.endpoint.timers)
        assert stage.gone == [], "who closes is not told that it is gone"


async def test_a_fanout_is_attached_only_while_it_has_lanes() -> None:
    async with on_stage() as stage:
        fanout = stage.peers.fanout(stage.track)
        peer = stage.peers.receiver(stage.track)
        await peer.offer()
        assert fanout not in stage.track._sinks
        await peer.close()
        connected = [(await stage.receiver())[0] for _ in range(2)]
        assert fanout in stage.track._sinks
        await connected[0].close()
        assert fanout in stage.track._sinks
        await connected[1].close()
        assert fanout not in stage.track._sinks


async def test_a_stream_that_ended_leaves_no_fanout_behind_but_its_counts() -> None:
    async with on_stage() as stage:
        peer, listener = await stage.receiver()
        stage.publish(b"voice")
        await listener.packets.wait_for(1)
        track, fanout = weakref.ref(stage.track), weakref.ref(stage.peers.fanout(stage.track))
        stage.track.stop()
        await peer.close()
        assert len(stage.peers._fanouts) == 0
        assert stage.peers.fanout(stage.track) is not fanout()
        assert len(stage.peers._fanouts) == 0
        figures = stage.peers.figures()
        assert (figures["forwarded_packets"], figures["dropped_packets"]) == (1, 0)
        stage.track = OpusTrack()
        stage._open.clear()
        await listener.peer.close()
        del peer, listener
        await until(
            lambda: gc.collect() >= 0 and track() is None and fanout() is None, "track and fan-out are freed", 5
        )


async def test_garbage_from_strangers_is_dropped_and_counted() -> None:
    async with on_stage() as stage:
        _, talker = await stage.sender()
        shared = stage.shared
        strays = shared.strays
        chance = random.Random(1)
        garbage = [
            b"",
            b"\x00",
            bytes(20),
            b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
            b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
            b"\x16\xfe\xfd" + chance.randbytes(60),
            b"\x80\x60" + chance.randbytes(60),
            b"\x80\xc8" + chance.randbytes(60),
            chance.randbytes(2_000),
            b"\xff" * 100,
        ]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in garbage:
                stranger.sendto(datagram, shared.address)
            await until(lambda: shared.strays - strays == len(garbage), "every stray is counted")
        talker.say(b"still here")
        await until(lambda: stage.track.packets == 1, "media goes on")
        assert stage.gone == []


async def test_garbage_from_a_clients_own_address_does_not_end_its_session() -> None:
    """Anyone in the network can write that address on a datagram."""
    async with on_stage() as stage:
        sender, talker = await stage.sender()
        _, listener = await stage.receiver()
        shared, refused = stage.shared, stage.peers.endpoint.refused_media
        strays = shared.strays
        chance = random.Random(2)
        talker.send_raw(b"")
        talker.send_raw(b"\x00\x01short")
        talker.send_raw(b"\xff" * 50)
        talker.send_raw(b"\x40" + bytes(50))
        talker.send_raw(b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\xff\xff")
        for _ in range(20):
            talker.send_raw(b"\x80\x60" + chance.randbytes(60))
            talker.send_raw(b"\x80\xc8" + chance.randbytes(60))
            talker.send_raw(bytes([chance.randrange(20, 64)]) + chance.randbytes(60))
        talker.send_raw(b"\x80\x60" + chance.randbytes(1_700))
        await until(
            lambda: stage.peers.endpoint.refused_media - refused == 41, "media that is not authentic is counted"
        )
        assert shared.strays - strays == 5
        for payload in PAYLOADS:
            talker.say(payload)
            await asyncio.sleep(0.001)
        await listener.packets.wait_for(len(PAYLOADS))
        assert listener.packets.payloads() == PAYLOADS
        assert sender._dtls.state == "connected"
        assert stage.gone == []


async def test_what_is_no_voice_is_refused() -> None:
    async with on_stage() as stage:
        _, talker = await stage.sender()
        session = talker.dtls._tx_srtp
        refused = stage.peers.endpoint.refused_media
        talker.send_raw(session.protect(rtp.pack_header(96, False, 1, 960, 7) + b"voice"))
        await until(lambda: stage.track.packets == 1, "a voice")
        talker.send_raw(session.protect(rtp.pack_header(97, False, 2, 960, 7) + b"other type"))
        talker.send_raw(session.protect(rtp.pack_header(96, False, 3, 960, 7)))
        again = session.protect(rtp.pack_header(96, False, 4, 960, 7) + b"once")
        talker.send_raw(again)
        talker.send_raw(again)
        talker.send_raw(session.protect_rtcp(b"\x80\xc8\x00\x01" + bytes(4)))
        await until(lambda: stage.peers.endpoint.refused_media - refused == 4, "four datagrams are refused")
        assert (stage.track.packets, stage.gone) == (2, [])


async def test_a_receiver_has_nothing_to_say() -> None:
    async with on_stage() as stage:
        _, listener = await stage.receiver()
        refused = stage.peers.endpoint.refused_media
        listener.send_raw(listener.dtls._tx_srtp.protect(rtp.pack_header(96, False, 1, 960, 7) + b"voice"))
        await until(lambda: stage.peers.endpoint.refused_media - refused == 1, "it is refused")
        assert stage.track.packets == 0


async def test_a_change_of_nomination_redirects() -> None:
    async with on_stage() as stage:
        peer, listener = await stage.receiver()
        stage.publish(b"here")
        await listener.packets.wait_for(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            elsewhere.bind(("127.0.0.1", 0))
            elsewhere.setblocking(False)
            host, port = elsewhere.getsockname()
            remote = Candidate("1", 1, "udp", 1, host, port, "host")
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


@pytest.mark.parametrize("turns", range(6))
async def test_a_peer_that_is_closed_while_it_describes_itself_leaves_nothing_behind(turns: int) -> None:
    async with on_stage() as stage:
        peer = stage.peers.receiver(stage.track)
        describing = asyncio.create_task(peer.offer())
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        await peer.close()
        await asyncio.wait([describing])
        assert stage.shared._users == {}


async def test_a_peer_that_was_never_used_closes() -> None:
    async with on_stage() as stage:
        for peer in (stage.peers.sender(stage.track), stage.peers.receiver(stage.track)):
            await asyncio.wait_for(peer.close(), 5)


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


@pytest.mark.parametrize("direction", ["receiver", "sender"])
async def test_a_closed_peer_goes_at_once_without_the_collector(direction: str) -> None:
    async with on_stage() as stage:
        peer: Peer | None
        peer, _ = await (stage.receiver() if direction == "receiver" else stage.sender())
        parts = list(map(weakref.ref, (peer, peer._pc, peer._dtls, peer._ice, peer._ice.connection)))
        stage.forget(peer)
        gc.collect()
        gc.disable()
        try:
            await peer.close()
            peer = None
            await until(lambda: all(part() is None for part in parts), "nothing is left of the peer")
        finally:
            gc.enable()


async def test_a_sender_takes_the_track_when_it_is_connected_and_not_before() -> None:
    async with on_stage() as stage:
        _, talker = await stage.sender()
        unanswered = stage.peers.sender(stage.track)
        await unanswered.answer(await Client().offer())
        talker.say(b"still here")
        await until(lambda: stage.track.packets == 1, "the present sender is heard")
        await unanswered.close()
        _, newcomer = await stage.sender()
        refused = stage.peers.endpoint.refused_media
        talker.say(b"too late")
        await until(lambda: stage.peers.endpoint.refused_media > refused, "the former sender is refused")
        assert stage.track.packets == 1
        newcomer.say(b"instead")
        await until(lambda: stage.track.packets == 2, "the newcomer is heard")


async def test_a_sender_that_closes_gives_the_track_back() -> None:
    async with on_stage() as stage:
        peer, _ = await stage.sender()
        source = peer._source
        stage.forget(peer)
        await peer.close()
        assert source is not None
        assert not source.is_current


async def test_a_device_that_comes_back_with_its_ssrc_and_counts_anew_is_heard_at_once() -> None:
    async with on_stage() as stage:
        _, listener = await stage.receiver()
        for first_sequence in (30_000, 100):
            _, talker = await stage.sender()
            for number in range(3):
                header = rtp.pack_header(96, False, first_sequence + number, number * 960, 7)
                talker.send_raw(talker.dtls._tx_srtp.protect(header + b"voice"))
            await listener.packets.wait_for(3)
        await listener.packets.wait_for(6)
        first = listener.packets[0].sequence
        assert [(packet.sequence - first) & 0xFFFF for packet in listener.packets] == list(range(6))


async def test_a_track_that_is_somebodys_for_good_is_refused_to_senders() -> None:
    async with on_stage() as stage:
        unanswered = stage.peers.sender(stage.track)
        offer = await Client().offer()
        own = stage.track.take_source(exclusive=True)
        with pytest.raises(Refused) as refusal:
            await unanswered.answer(offer)
        assert refusal.value.code == "name_taken"
        assert own.is_current
        await unanswered.close()


async def test_a_sender_whose_track_became_somebodys_for_good_is_lost() -> None:
    async with on_stage() as stage:
        peer, client = stage.peers.sender(stage.track), Client()
        stage._open += [peer, client.peer]
        peer.on_gone = stage.gone.append
        answer = await peer.answer(await client.offer())
        own = stage.track.take_source(exclusive=True)
        await client.take_answer(answer)
        await until(lambda: bool(stage.gone), "it is lost")
        assert stage.gone == ["This stream is the server's own"]
        client.say(b"mine")
        await until(lambda: stage.peers.endpoint.refused_media > 0, "it is refused")
        assert own.is_current
        assert stage.track.packets == 0


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
