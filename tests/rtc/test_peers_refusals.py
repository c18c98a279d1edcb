"""What peers do not take: garbage, what is no voice, and senders of a track that is somebody else's."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from tests.support.stage import PAYLOADS, Client, on_stage, until
from voice_streaming.process.refusal import Refused
from voice_streaming.rtc import rtp
from voice_streaming.streams.source import Source


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
        assert isinstance(source, Source)
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
