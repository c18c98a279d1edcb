from __future__ import annotations

import itertools
import time

import pytest

from voice_streaming.streams.stream import InvalidTransition, Stream, StreamState, newest
from voice_streaming.streams.track import OpusTrack

STREAM_STEPS = {("created", "active"), ("created", "ended"), ("active", "ended"), ("ended", "removed")}


def stream(stream_id: str = "s", state: StreamState = StreamState.CREATED) -> Stream:
    return Stream(stream_id, stream_id.title(), OpusTrack(), "sender", state=state)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(StreamState, repeat=2)))
def test_a_stream_takes_only_the_steps_of_its_life(before: StreamState, after: StreamState) -> None:
    record = stream(state=before)
    if (before.value, after.value) in STREAM_STEPS:
        record.advance(after)
        assert record.state is after
    else:
        with pytest.raises(InvalidTransition, match=f"stream s: {before.value} -> {after.value}"):
            record.advance(after)
        assert record.state is before


def test_a_stream_starts_when_it_becomes_active() -> None:
    record = stream()
    record.started_at = record.started_s = 0.0
    assert not record.is_live
    record.advance(StreamState.ACTIVE)
    assert record.is_live
    assert record.started_at == pytest.approx(time.time(), abs=5)
    assert record.started_s == pytest.approx(time.monotonic(), abs=5)
    started_s = record.started_s
    record.advance(StreamState.ENDED)
    assert not record.is_live
    assert record.started_s == started_s


def test_details_say_who_receives() -> None:
    record = stream("kitchen")
    record.receivers |= {"a", "b"}
    record.listeners = 3
    details = record.details()
    assert (details.stream_id, details.name, details.state) == ("kitchen", "Kitchen", "created")
    assert (details.receivers, details.listeners, details.started_at) == (2, 3, record.started_at)


def test_the_newest_is_the_live_stream_that_started_last() -> None:
    streams = {name: stream(name) for name in ("a", "b", "c", "d")}
    assert newest(streams) is None
    for name, started_s in (("c", 1.0), ("a", 2.0), ("b", 3.0)):
        streams[name].advance(StreamState.ACTIVE)
        streams[name].started_s = started_s
    assert newest(streams) is streams["b"]
    streams["b"].advance(StreamState.ENDED)
    assert newest(streams) is streams["a"]
    assert newest({}) is None
