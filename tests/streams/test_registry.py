from __future__ import annotations

import time

import pytest

from voice_streaming.process.failures import Failures
from voice_streaming.process.refusal import Refused
from voice_streaming.streams.registry import StreamObserver, Streams, StreamSupplier
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream


class Recorder(StreamObserver):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_stream_live(self, stream: Stream) -> None:
        self.seen.append(f"{stream.id} live")

    def on_stream_paused(self, stream: Stream) -> None:
        self.seen.append(f"{stream.id} paused")

    def on_stream_resumed(self, stream: Stream) -> None:
        self.seen.append(f"{stream.id} resumed")

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        self.seen.append(f"{stream.id} ended: {reason}")


class Failing(StreamObserver):
    def on_stream_live(self, stream: Stream) -> None:
        raise RuntimeError("on purpose")

    on_stream_paused = on_stream_resumed = on_stream_live

    def on_stream_ended(self, stream: Stream, reason: str) -> None:
        raise RuntimeError("on purpose")


def registry(*observers: StreamObserver) -> Streams:
    streams = Streams(VoiceRelay(), resume_grace_s=10)
    for observer in observers:
        streams.observe(observer)
    return streams


def live_stream(streams: Streams, stream_id: str = "kitchen") -> Stream:
    stream = streams.create(stream_id, stream_id, "sender")
    stream.track.take_source().publish(1, 0, 0, True, b"voice", 0.0)
    return stream


async def test_observers_are_told_what_becomes_of_a_stream_each_in_its_turn() -> None:
    first, second = Recorder(), Recorder()
    streams = registry(first, second)
    stream = live_stream(streams)
    streams.pause(stream, "sender lost")
    streams.resume(stream)
    streams.end(stream, "sender left")
    assert first.seen == ["kitchen live", "kitchen paused", "kitchen resumed", "kitchen ended: sender left"]
    assert second.seen == first.seen


async def test_an_observer_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    failures = Failures()
    streams = Streams(VoiceRelay(), 10, failures)
    for observer in (Failing(), recorder):
        streams.observe(observer)
    stream = live_stream(streams)
    streams.pause(stream, "sender lost")
    streams.resume(stream)
    streams.end(stream, "sender left")
    assert len(recorder.seen) == 4
    assert streams.active == {}
    assert [record.message for record in caplog.records if record.exc_info] == ["observer-Failing failed"]
    assert list(failures.problems) == ["observer-Failing"]
    assert failures.total == 4


async def test_nobody_is_told_of_a_stream_that_never_was_live() -> None:
    recorder = Recorder()
    streams = registry(recorder)
    streams.end(streams.create("kitchen", "kitchen", "sender"), "no media")
    assert recorder.seen == []


@pytest.mark.parametrize("kind", ["receivers", "listeners", "consumers", "permanent", "nobody"])
async def test_whoever_takes_a_stream_keeps_it_from_being_idle(kind: str) -> None:
    streams = registry()
    stream = live_stream(streams)
    if kind == "receivers":
        stream.receivers.add("somebody")
    elif kind == "listeners":
        stream.listeners = 1
    elif kind == "consumers":
        stream.consumers.add(object())
    elif kind == "permanent":
        stream.permanent = True
    stream.last_activity = time.monotonic() - 700
    streams.end_stale(600)
    assert ("kitchen" in streams.active) is (kind != "nobody")
    streams.end_stale(600)
    assert ("kitchen" in streams.active) is (kind != "nobody")


class Supplier(StreamSupplier):
    """Brings the stream `barn`, and counts what it is asked for."""

    def __init__(self, streams: Streams) -> None:
        self.asked: list[str] = []
        self._streams = streams

    async def supply(self, stream_id: str) -> None:
        self.asked.append(stream_id)
        if stream_id == "barn":
            live_stream(self._streams, "barn")


async def test_a_stream_that_is_not_live_is_asked_for_once() -> None:
    streams = registry()
    supplier = Supplier(streams)
    streams.supplied_by(supplier)
    for stream_id in (None, "hall"):
        with pytest.raises(Refused):
            await streams.obtain(stream_id)
    stream = await streams.obtain("barn")
    assert stream.is_live
    assert await streams.obtain("Barn") is stream
    assert await streams.obtain(None) is stream
    assert supplier.asked == ["hall", "barn"]
