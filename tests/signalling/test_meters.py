"""What subscribers to a stream's meter get."""

from __future__ import annotations

import asyncio
import json
import time
from typing import NamedTuple

import numpy as np
import pytest

from tests.support.tones import tone
from tests.support.virtual_time import run
from voice_streaming.media.levels import (
    BANDS,
    FLOOR_DB,
    INTERVAL_SAMPLES,
    Analyser,
    Samples,
)
from voice_streaming.process.failures import Failures
from voice_streaming.signalling.meters import SILENCE_AFTER_S, Meter


class Block(NamedTuple):
    samples: Samples


class Source:
    """A stream's PCM as the meter sees it; what is decoded, and by whom, does not matter to it."""

    def __init__(self) -> None:
        self.sinks: list[Meter] = []
        self.attached = 0

    def attach(self, sink: Meter) -> None:
        self.sinks.append(sink)
        self.attached += 1

    def detach(self, sink: Meter) -> None:
        if sink in self.sinks:
            self.sinks.remove(sink)

    def speak(self, samples: Samples) -> None:
        for at in range(0, len(samples), 960):
            for sink in tuple(self.sinks):
                sink.on_pcm(Block(samples[at : at + 960]))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def meter(source: Source) -> Meter:
    return Meter("kitchen", source)


async def test_message_has_the_protocols_fields(source: Source, meter: Meter) -> None:
    texts: list[str] = []
    meter.subscribe(texts.append)
    before = time.time()

    source.speak(tone(1000, -6))

    assert len(texts) == 10
    message = json.loads(texts[-1])
    assert list(message) == ["type", "stream_id", "timestamp", "level", "peak", "spectrum"]
    assert (message["type"], message["stream_id"]) == ("audio_data", "kitchen")
    assert before - 0.01 <= message["timestamp"] <= time.time() + 0.01
    assert (message["level"], message["peak"]) == (-9.0, -6.0)
    assert len(message["spectrum"]) == BANDS
    assert all(round(value, 1) == value for value in message["spectrum"])
    assert len(texts[-1]) < 500


async def test_all_subscribers_get_the_same_text_object(source: Source, meter: Meter) -> None:
    first: list[str] = []
    second: list[str] = []
    meter.subscribe(first.append)
    meter.subscribe(second.append)

    source.speak(tone(440))

    assert len(first) == 10
    assert all(one is other for one, other in zip(first, second, strict=True))


async def test_pcm_is_taken_only_while_somebody_subscribes(source: Source, meter: Meter) -> None:
    first: list[str] = []
    second: list[str] = []
    assert source.sinks == []

    meter.subscribe(first.append)
    meter.subscribe(first.append)
    meter.subscribe(second.append)
    assert (source.sinks, meter.subscribers) == ([meter], 2)
    meter.unsubscribe(first.append)
    assert source.sinks == [meter]
    meter.unsubscribe(second.append)
    meter.unsubscribe(second.append)
    assert (source.sinks, meter.subscribers) == ([], 0)

    meter.subscribe(first.append)
    assert (source.sinks, source.attached) == ([meter], 2)
    meter.unsubscribe(first.append)


async def test_who_returns_sees_nothing_of_before(source: Source, meter: Meter) -> None:
    texts: list[str] = []
    meter.subscribe(texts.append)
    source.speak(tone(1000))
    meter.unsubscribe(texts.append)

    meter.subscribe(texts.append)
    source.speak(np.zeros((INTERVAL_SAMPLES, 2), np.int16))

    assert set(json.loads(texts[-1])["spectrum"]) == {FLOOR_DB}
    meter.unsubscribe(texts.append)


async def test_meters_fall_when_no_sound_comes(source: Source, meter: Meter) -> None:
    texts: list[str] = []
    meter.subscribe(texts.append)
    source.speak(tone(1000))
    texts.clear()

    await asyncio.sleep(2.5 * SILENCE_AFTER_S)

    assert 1 <= len(texts) <= 2
    message = json.loads(texts[0])
    assert (message["level"], message["peak"], set(message["spectrum"])) == (FLOOR_DB, FLOOR_DB, {FLOOR_DB})
    meter.unsubscribe(texts.append)
    texts.clear()
    await asyncio.sleep(1.5 * SILENCE_AFTER_S)
    assert texts == []


async def test_end_of_the_stream_lets_meters_fall_and_leaves_nobody(source: Source, meter: Meter) -> None:
    texts: list[str] = []
    meter.subscribe(texts.append)

    meter.on_end()

    assert [json.loads(text)["level"] for text in texts] == [FLOOR_DB]
    assert (meter.subscribers, source.sinks) == (0, [])
    await asyncio.sleep(1.5 * SILENCE_AFTER_S)
    assert len(texts) == 1


async def test_subscriber_that_fails_is_dropped_and_the_others_do_not_notice(
    source: Source, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(text: str) -> None:
        raise ConnectionResetError

    texts: list[str] = []
    meter.subscribe(fail)
    meter.subscribe(texts.append)

    source.speak(tone(1000))

    assert len(texts) == 10
    assert meter.subscribers == 1
    assert len([record for record in caplog.records if record.exc_info]) == 1
    meter.unsubscribe(texts.append)


async def test_subscriber_may_leave_within_its_own_call(source: Source, meter: Meter) -> None:
    texts: list[str] = []

    def leave(text: str) -> None:
        texts.append(text)
        meter.unsubscribe(leave)

    meter.subscribe(leave)
    source.speak(tone(1000))

    assert len(texts) == 1
    assert source.sinks == []


def test_silence_is_told_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        failures = Failures()
        meter = Meter("kitchen", Source(), failures)
        texts: list[str] = []
        meter.subscribe(texts.append)
        with monkeypatch.context() as failing:
            failing.setattr(Analyser, "clear", lambda self: 1 // 0)
            await asyncio.sleep(5 * SILENCE_AFTER_S)
            assert texts == []
            assert failures.problems == {"meter-silence": repr(ZeroDivisionError("integer division or modulo by zero"))}
        await asyncio.sleep(5 * SILENCE_AFTER_S)
        assert len(texts) >= 4

    run(scene())
