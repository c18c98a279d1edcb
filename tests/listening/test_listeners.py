"""What each listener is written, and who is disconnected."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.radio import RecordingTransport
from voice_streaming.listening.icy import METADATA_INTERVAL_BYTES, IcyInterleaver
from voice_streaming.listening.listeners import (
    KERNEL_BUFFER_BYTES,
    LISTENERS_PER_TURN,
    Delivery,
    Listener,
    ListenerCounters,
)
from voice_streaming.process.turns import Turns

AUDIO = b"a chunk of audio"
BACKLOG_BYTES = 1000


class SlowTransport(RecordingTransport):
    """A player's socket that has so much unsent."""

    def __init__(self, unsent_bytes: int = 0) -> None:
        super().__init__()
        self.unsent_bytes = unsent_bytes

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes


class SocketTransport(RecordingTransport):
    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection if name == "socket" else default


def new_listener(
    transport: RecordingTransport | None = None, *, chunked: bool = False, icy: IcyInterleaver | None = None
) -> Listener:
    return Listener(transport or RecordingTransport(), follows=True, chunked=chunked, icy=icy)


def received(listener: Listener) -> bytes:
    assert isinstance(listener.transport, RecordingTransport)
    return listener.transport.received


def new_delivery() -> tuple[Delivery, ListenerCounters]:
    counters = ListenerCounters()
    return Delivery(Turns(), counters, BACKLOG_BYTES), counters


async def turn() -> None:
    await asyncio.sleep(0)


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.socket() as tcp:
        yield tcp


async def test_audio_comes_as_the_listener_asked_for_it() -> None:
    interval = bytes(METADATA_INTERVAL_BYTES)
    plain, chunked = new_listener(), new_listener(chunked=True)
    icy, both = new_listener(icy=IcyInterleaver()), new_listener(chunked=True, icy=IcyInterleaver())
    assert [listener.is_plain for listener in (plain, chunked, icy, both)] == [True, False, False, False]
    delivery, _ = new_delivery()
    delivery.deliver([plain, chunked, icy, both], interval, "News")
    await turn()
    titled = IcyInterleaver().interleave(interval, "News")
    assert titled != interval
    assert received(plain) == interval
    assert received(chunked) == b"3e80\r\n" + interval + b"\r\n"
    assert received(icy) == titled
    assert received(both) == b"%x\r\n" % len(titled) + titled + b"\r\n"


async def test_the_end_of_a_chunked_body_is_written() -> None:
    plain, chunked, left = new_listener(), new_listener(chunked=True), new_listener(chunked=True)
    left.transport.abort()
    for listener in (plain, chunked, left):
        listener.finish()
        assert listener.gone.done()
    assert (received(plain), received(chunked), received(left)) == (b"", b"0\r\n\r\n", b"")


async def test_the_kernel_is_asked_for_a_small_buffer(connection: socket.socket) -> None:
    before_bytes = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    new_listener(SocketTransport(connection))
    size_bytes = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size_bytes != before_bytes
    assert size_bytes in (KERNEL_BUFFER_BYTES, 2 * KERNEL_BUFFER_BYTES)


async def test_who_has_too_much_unsent_is_disconnected_and_the_others_get_everything() -> None:
    slow, late, prompt = (new_listener(SlowTransport(unsent)) for unsent in (BACKLOG_BYTES + 1, BACKLOG_BYTES, 0))
    delivery, counters = new_delivery()
    delivery.deliver([slow, late, prompt], AUDIO, "")
    await turn()
    assert [received(listener) for listener in (slow, late, prompt)] == [b"", AUDIO, AUDIO]
    assert [listener.gone.done() for listener in (slow, late, prompt)] == [True, False, False]
    assert slow.transport.is_closing()
    assert (counters.disconnected_slow, counters.bytes_sent) == (1, 2 * len(AUDIO))


async def test_who_has_left_is_let_go_and_is_not_counted_as_slow() -> None:
    left, there = new_listener(), new_listener()
    left.transport.close()
    delivery, counters = new_delivery()
    delivery.deliver([left, there], AUDIO, "")
    await turn()
    assert (received(left), received(there)) == (b"", AUDIO)
    assert (left.gone.done(), there.gone.done()) == (True, False)
    assert (counters.disconnected_slow, counters.bytes_sent) == (0, len(AUDIO))


async def test_a_crowd_is_written_to_in_several_turns_of_the_event_loop() -> None:
    crowd = [new_listener() for _ in range(2 * LISTENERS_PER_TURN + 1)]
    delivery, counters = new_delivery()
    delivery.deliver(crowd, AUDIO, "")
    written = []
    for _ in range(4):
        await turn()
        written.append(counters.bytes_sent // len(AUDIO))
    assert written == [LISTENERS_PER_TURN, 2 * LISTENERS_PER_TURN, len(crowd), len(crowd)]
    assert all(received(listener) == AUDIO for listener in crowd)
