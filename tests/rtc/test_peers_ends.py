"""How peers end: goodbyes, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.support.stage import on_stage, until
from voice_streaming.rtc import rtp
from voice_streaming.rtc.peer import Peer
from voice_streaming.streams.track import OpusTrack


async def test_a_goodbye_is_reported_once() -> None:
    async with on_stage() as stage:
        sender, talker = await stage.heard_sender()
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
