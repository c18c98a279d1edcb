"""The round in which peers are attended to, in virtual time; the peers are stand-ins that note when they are."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import cast

import pytest

from tests.support.virtual_time import run
from voice_streaming.config import WebrtcSettings
from voice_streaming.peers.hub import ATTENTION_INTERVAL_S, Peers
from voice_streaming.peers.peer import Peer
from voice_streaming.relay import VoiceRelay


class Attended:
    def __init__(self) -> None:
        self.joined_s = asyncio.get_running_loop().time()
        self.at_s: list[float] = []

    def attend(self, now_s: float) -> None:
        self.at_s.append(now_s)

    @property
    def as_peer(self) -> Peer:
        return cast(Peer, self)


async def some_leave_and_others_come(chance: random.Random) -> list[Attended]:
    """All that ever came; those that left have been attended to for no longer than they were there."""
    peers = Peers(WebrtcSettings(), VoiceRelay())
    present: list[Attended] = []
    everybody: list[Attended] = []
    for _ in range(60):
        await asyncio.sleep(chance.choice([0, 0.01, 0.3, 2.0, 6.0]))
        if present and chance.random() < 0.4:
            gone = present.pop(chance.randrange(len(present)))
            peers.leave_round(gone.as_peer)
            gone.at_s.append(asyncio.get_running_loop().time())
        else:
            present.append(Attended())
            everybody.append(present[-1])
            peers.join_round(present[-1].as_peer)
    await asyncio.sleep(4 * ATTENTION_INTERVAL_S)
    for one in present:
        assert len(one.at_s) >= 4
    peers.close()
    return everybody


@pytest.mark.parametrize("seed", range(20))
def test_whoever_joins_is_attended_to_within_an_interval_and_then_once_in_each(seed: int) -> None:
    for one in run(some_leave_and_others_come(random.Random(seed))):
        assert one.at_s[0] - one.joined_s <= ATTENTION_INTERVAL_S + 0.001
        steps = [after - before for before, after in itertools.pairwise(one.at_s)]
        assert steps[:-1] == pytest.approx([ATTENTION_INTERVAL_S] * len(steps[:-1]), abs=0.001)


def test_nobody_there_is_no_wake_up() -> None:
    async def scene() -> None:
        peers, loop = Peers(WebrtcSettings(), VoiceRelay()), asyncio.get_running_loop()
        one = Attended()
        peers.join_round(one.as_peer)
        await asyncio.sleep(1)
        peers.leave_round(one.as_peer)
        await asyncio.sleep(2 * ATTENTION_INTERVAL_S)
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    run(scene())
