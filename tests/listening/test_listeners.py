"""What each listener is written, and who is disconnected."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from tests.support.radio import RecordingTransport
from voice_streaming.listening.backlog import BacklogLimits
from voice_streaming.listening.icy import METADATA_INTERVAL_BYTES, IcyInterleaver
from voice_streaming.listening.listeners import LISTENERS_PER_TURN, Chunk, Delivery, Listener, ListenerCounters
from voice_streaming.process.failures import Failures
from voice_streaming.process.turns import Turns

AUDIO = b"a chunk of audio"
LIMITS = BacklogLimits(most_unsent_bytes=1000, chunk_bytes=100, kernel_buffer_bytes=30_000, max_backlog_s=5.0)
FRAMES_PER_CHUNK = 10


class FailingTransport(RecordingTransport):
    def write(self, data: Any) -> NoReturn:
        raise ZeroDivisionError("by design")


class SocketTransport(RecordingTransport):
    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self.write_buffer_limit_bytes: int | None = None
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._connection if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.write_buffer_limit_bytes = high


def new_listener(
    transport: RecordingTransport | None = None,
    *,
    chunked: bool = False,
    icy: IcyInterleaver | None = None,
    most_bytes: int | None = None,
) -> Listener:
    transport = transport or RecordingTransport()
    listener = Listener(transport, follows=True, chunked=chunked, icy=icy, most_bytes=most_bytes)
    listener.begin(0, LIMITS)
    return listener


def received(listener: Listener) -> bytes:
    assert isinstance(listener.transport, RecordingTransport)
    return listener.transport.received


def with_unsent(unsent_bytes: int) -> Listener:
    listener = new_listener()
    set_unsent(listener, unsent_bytes)
    return listener


def set_unsent(listener: Listener, unsent_bytes: int) -> None:
    assert isinstance(listener.transport, RecordingTransport)
    listener.transport.unsent_bytes = unsent_bytes


class Broadcast:
    """A delivery of chunks in a row, by a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.counters = ListenerCounters()
        self.failures = Failures()
        self.delivery = Delivery(Turns(), self.counters, lambda: self.now_s, self.failures)
        self._frame = 0

    def deliver(self, listeners: list[Listener], audio: bytes = AUDIO, title: str = "") -> None:
        frames = range(self._frame, self._frame + FRAMES_PER_CHUNK)
        self._frame = frames.stop
        self.delivery.deliver(listeners, Chunk(audio, title, frames))


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
    broadcast = Broadcast()
    broadcast.deliver([plain, chunked, icy, both], interval, "News")
    await turn()
    titled = IcyInterleaver().interleave(interval, "News")
    assert titled != interval
    assert received(plain) == interval
    assert received(chunked) == b"3e80\r\n" + interval + b"\r\n"
    assert received(icy) == titled
    assert received(both) == b"%x\r\n" % len(titled) + titled + b"\r\n"


async def test_a_body_of_a_given_length_ends_with_its_last_byte() -> None:
    limited = new_listener(most_bytes=20)
    assert not limited.is_plain
    broadcast = Broadcast()
    broadcast.deliver([limited], AUDIO)
    await turn()
    assert (received(limited), limited.gone.done()) == (AUDIO, False)
    broadcast.deliver([limited], AUDIO)
    await turn()
    assert (received(limited), limited.gone.done()) == (AUDIO + AUDIO[:4], True)


async def test_the_end_of_a_chunked_body_is_written() -> None:
    plain, chunked, left = new_listener(), new_listener(chunked=True), new_listener(chunked=True)
    left.transport.abort()
    for listener in (plain, chunked, left):
        listener.finish()
        assert listener.gone.done()
    assert (received(plain), received(chunked), received(left)) == (b"", b"0\r\n\r\n", b"")


async def test_the_kernel_and_tls_are_asked_for_small_buffers(connection: socket.socket) -> None:
    before_bytes = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    transport = SocketTransport(connection)
    new_listener(transport)
    size_bytes = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size_bytes != before_bytes
    # Linux gives twice what was asked.
    assert size_bytes in (LIMITS.kernel_buffer_bytes, 2 * LIMITS.kernel_buffer_bytes)
    assert transport.write_buffer_limit_bytes == LIMITS.chunk_bytes


async def test_who_has_too_much_unsent_gets_no_more_and_the_others_get_everything() -> None:
    slow, late, prompt = (with_unsent(unsent) for unsent in (1001, 1000, 0))
    broadcast = Broadcast()
    broadcast.deliver([slow, late, prompt])
    await turn()
    assert [received(listener) for listener in (slow, late, prompt)] == [b"", AUDIO, AUDIO]
    assert [listener.gone.done() for listener in (slow, late, prompt)] == [False, False, False]
    counters = broadcast.counters
    assert (counters.brought_back, counters.dropped_frames, counters.disconnected_slow) == (1, FRAMES_PER_CHUNK, 0)
    assert counters.bytes_sent == 2 * len(AUDIO)


async def test_who_was_late_is_live_again_and_what_it_missed_is_known() -> None:
    listener = with_unsent(1001)
    broadcast = Broadcast()
    # Of what it missed there are two chunks; the last finds nothing unsent.
    for unsent_bytes, frames_sent in ((1001, 0), (101, 0), (0, FRAMES_PER_CHUNK)):
        set_unsent(listener, unsent_bytes)
        broadcast.deliver([listener])
        await turn()
        assert received(listener) == AUDIO * (frames_sent // FRAMES_PER_CHUNK)
    counters = broadcast.counters
    assert (counters.brought_back, counters.dropped_frames) == (1, 2 * FRAMES_PER_CHUNK)
    assert counters.bytes_sent == len(AUDIO)
    # The first frame it got is the 20th of the clock.
    assert listener.sent.frame_at(0) == 2 * FRAMES_PER_CHUNK


async def test_who_takes_nothing_at_all_is_disconnected() -> None:
    stuck, prompt = with_unsent(500), new_listener()
    broadcast = Broadcast()
    broadcast.deliver([stuck, prompt])
    await turn()
    broadcast.now_s += LIMITS.max_backlog_s + 0.1
    set_unsent(stuck, 500 + len(AUDIO))
    broadcast.deliver([stuck, prompt])
    await turn()
    assert (received(stuck), received(prompt)) == (AUDIO, 2 * AUDIO)
    assert (stuck.gone.done(), stuck.transport.is_closing(), prompt.gone.done()) == (True, True, False)
    assert (broadcast.counters.disconnected_slow, broadcast.counters.bytes_sent) == (1, 3 * len(AUDIO))


async def test_who_has_left_is_let_go_and_is_not_counted_as_slow() -> None:
    left, there = new_listener(), new_listener()
    left.transport.close()
    broadcast = Broadcast()
    broadcast.deliver([left, there])
    await turn()
    assert (received(left), received(there)) == (b"", AUDIO)
    assert (left.gone.done(), there.gone.done()) == (True, False)
    assert (broadcast.counters.disconnected_slow, broadcast.counters.bytes_sent) == (0, len(AUDIO))


async def test_one_whose_connection_fails_is_let_go_and_the_others_get_everything() -> None:
    failing, there = new_listener(FailingTransport()), new_listener()
    broadcast = Broadcast()
    broadcast.deliver([failing, there])
    await turn()
    assert (failing.gone.done(), there.gone.done(), received(there)) == (True, False, AUDIO)
    assert broadcast.failures.problems == {"mp3-listener": "ZeroDivisionError('by design')"}
    assert broadcast.counters.bytes_sent == len(AUDIO)


async def test_frames_that_nobody_gets_are_a_gap_for_everyone() -> None:
    listeners = [new_listener(), new_listener()]
    broadcast = Broadcast()
    broadcast.delivery.skip(listeners, range(5))
    await turn()
    assert [listener.sent.frame_at(0) for listener in listeners] == [5, 5]


async def test_a_crowd_is_written_to_in_several_turns_of_the_event_loop() -> None:
    crowd = [new_listener() for _ in range(2 * LISTENERS_PER_TURN + 1)]
    broadcast = Broadcast()
    broadcast.deliver(crowd)
    written = []
    for _ in range(4):
        await turn()
        written.append(broadcast.counters.bytes_sent // len(AUDIO))
    assert written == [LISTENERS_PER_TURN, 2 * LISTENERS_PER_TURN, len(crowd), len(crowd)]
    assert all(received(listener) == AUDIO for listener in crowd)
