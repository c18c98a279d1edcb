from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.stage import on_stage, until
from voice_streaming.rtc.shared_socket import Address, SharedSocket, is_stun
from voice_streaming.settings.model import WebrtcSettings

BETTER, WORSE = "127.0.0.1", "127.0.0.2"


def delay_checks(shared: SharedSocket, seconds: float) -> None:
    send, loop = shared.send, asyncio.get_running_loop()

    def send_later(datagram: bytes | memoryview, address: Address) -> bool:
        if not is_stun(bytes(datagram)):
            return send(datagram, address)
        loop.call_later(seconds, send, bytes(datagram), address)
        return True

    shared.send = send_later  # type: ignore[method-assign]


@pytest.mark.parametrize("last", [BETTER, WORSE])
async def test_of_several_ways_media_takes_the_best_and_not_the_last_that_was_found(last: str) -> None:
    """The client answers with one address; from the other its check comes when the first is in use."""
    async with on_stage() as first, on_stage() as second:
        second.peers.endpoint.sockets.settings = WebrtcSettings(host_addresses=(BETTER, WORSE))
        for shared in second.peers.endpoint.sockets.open():
            # Both have begun before one succeeds.
            delay_checks(shared, 0.4 if shared.address[0] == last else 0.1)
        sending, receiving = first.peers.receiver(first.track), second.peers.sender(second.track)
        first._open.append(sending)
        second._open.append(receiving)
        answer = await receiving.answer(await sending.offer())
        answer = re.sub(rf"a=candidate:.* {last} .*\r\n", "", answer)
        # Less than what a check brings that comes unexpectedly.
        answer = re.sub(rf"(?<= udp )\d+(?= {WORSE} )", "1000", answer)
        await sending.accept(answer)
        found = sending._ice.connection._check_list
        await until(lambda: len(found) == 2 and all(way.nominated for way in found), "the other way is found")
        await until(lambda: sending.destination is not None, "the destination")
        assert sending.destination is not None
        assert sending.destination.address[0] == BETTER
