"""One failure never silences the others; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from tests.listening.distribution import (
    BURST_S,
    CHUNK_S,
    FRAME_S,
    Distribution,
    at_48_khz,
    offsets_s,
    play_on,
)
from tests.support.audio import Samples
from tests.support.radio import decode_mp3, mp3_frames, send
from tests.support.virtual_time import VirtualTimeLoop, run
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.lame import Mp3Encoder
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.opus import Samples as PcmSamples
from voice_streaming.process.timers import RETRY_S


def fail(*_: object) -> None:
    raise ZeroDivisionError("by design")


class OnceFailing(Mp3Encoder):
    """Fails after a second, and is the only one that does."""

    was_made = False

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self._left_s = 1.0 if not OnceFailing.was_made else math.inf
        OnceFailing.was_made = True

    def encode(self, samples: PcmSamples) -> list[bytes]:
        self._left_s -= len(samples) / 48_000
        if self._left_s < 0:
            raise RuntimeError("on purpose")
        return super().encode(samples)


def test_an_encoder_that_fails_is_replaced_and_the_other_streams_do_not_notice(
    packets: list[OpusPacket], reference: Samples, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> list[bytes]:
        distribution = Distribution()
        streams = [distribution.start(name) for name in ("failing", "kitchen")]
        monkeypatch.setattr("voice_streaming.listening.mp3.Mp3Encoder", OnceFailing)
        transports = [distribution.listen(stream)[1] for stream in streams]
        follower = distribution.listen(None)[1]
        begun_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(send(stream.track, packets) for stream in streams))
        due = (asyncio.get_running_loop().time() - begun_s + BURST_S - CHUNK_S) / FRAME_S
        for transport in (*transports, follower):
            transport.close()
        assert all(len(mp3_frames(transport.received)) >= due - 2 for transport in (*transports, follower))
        return [transport.received for transport in transports]

    failing, kitchen = run(scene())
    assert len(caplog.records) == 1
    assert "The MP3 of track" in caplog.text
    for received, seconds in ((failing, 5), (kitchen, 8)):
        assert len(offsets_s(reference, at_48_khz(decode_mp3(mp3_frames(received))))) >= seconds


@pytest.mark.parametrize(
    "name", ["_tick", "_prepare", "_prepare_piece", "_hand_out", "_close_what_is_over", "_end_long_silence"]
)
def test_the_clock_goes_on_after_a_failure_which_is_counted_and_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        with monkeypatch.context() as failing:
            calls: list[str] = []

            def fail_once(self: Channels, *arguments: object) -> object:
                calls.append(name)
                if len(calls) == 3:
                    fail()
                return original(self, *arguments)

            original = getattr(Channels, name)
            failing.setattr(Channels, name, fail_once)
            distribution = Distribution()
            transports = [distribution.listen(distribution.start())[1], distribution.listen(None)[1]]
            await asyncio.sleep(5)
            assert len(calls) > 3
            assert list(distribution.failures.problems.values()) == ["ZeroDivisionError('by design')"]
            assert distribution.failures.total == 1
            assert await play_on(distribution, transports, 10) == pytest.approx([10, 10], abs=2 * CHUNK_S)

    run(scene())


def test_a_chunk_that_takes_long_is_handed_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the clock waits before it takes a chunk for lost."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        distribution = Distribution()
        _, transport = distribution.listen(distribution.start())
        (channel,) = distribution.channels._channels.values()
        prepare, slow_calls = channel.programme.prepare, iter(range(5))

        def prepare_slowly(count: int) -> bool:
            if next(slow_calls, None) is None:
                return prepare(count)
            loop.pass_time(RETRY_S / 4)
            return True

        await asyncio.sleep(1)
        monkeypatch.setattr(channel.programme, "prepare", prepare_slowly)
        assert await play_on(distribution, [transport], 10) == pytest.approx([10], abs=0.2)

    run(scene())


def test_a_chunk_that_takes_several_turns_is_begun_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        begun: list[float] = []
        tick = Channels._tick

        def count_ticks(self: Channels) -> None:
            begun.append(asyncio.get_running_loop().time())
            tick(self)

        monkeypatch.setattr(Channels, "_tick", count_ticks)
        distribution = Distribution()
        distribution.listen(distribution.start())
        (channel,) = distribution.channels._channels.values()
        prepare, has_more = channel.programme.prepare, itertools.cycle([True, True, False])
        monkeypatch.setattr(channel.programme, "prepare", lambda count: next(has_more) or prepare(count))
        await asyncio.sleep(10)
        assert len(begun) == pytest.approx(10 / CHUNK_S, abs=1)

    run(scene())


@pytest.mark.parametrize("name", ["prepare", "take"])
def test_a_programme_that_fails_for_ever_silences_nobody_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        distribution = Distribution()
        transports = [distribution.listen(distribution.start(room), follows=False)[1] for room in ("bad", "good")]
        transports.append(distribution.listen(None)[1])
        (bad, _) = distribution.channels._channels.values()
        monkeypatch.setattr(bad.programme, name, fail)
        assert (await play_on(distribution, transports, 10))[1:] == pytest.approx([10, 10], abs=2 * CHUNK_S)
        assert "ZeroDivisionError('by design')" in distribution.failures.problems.values()

    run(scene())


def test_a_listener_that_fails_is_let_go_and_the_others_do_not_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        distribution = Distribution()
        stream = distribution.start()
        listened = [distribution.listen(stream) for _ in range(3)]
        monkeypatch.setattr(listened[1][1], "write", fail)
        heard_s = await play_on(distribution, [transport for _, transport in listened], 10)
        assert heard_s == pytest.approx([10, 0, 10], abs=2 * CHUNK_S)
        assert [listener.gone.done() for listener, _ in listened] == [False, True, False]
        assert list(distribution.failures.problems) == ["mp3-listener"]

    run(scene())
