"""Several voices in one track, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from tests.support.virtual_time import run
from tests.support.voices import Ear, Voice, level_of, tone_payloads
from voice_streaming.process.failures import Failures
from voice_streaming.streams.mixing import Mix, Mixes, TooManyMixes
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.track import OpusTrack

TONES_HZ = (500, 900, 1300)


def mixes(**options: Any) -> Mixes:
    return Mixes(VoiceRelay(), Failures(), even_loudness=False, **options)


def together(*work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, Any]:
    async def all_of_it() -> None:
        await asyncio.gather(*work)

    return all_of_it()


def in_virtual_time(scene: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        run(scene())

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


@in_virtual_time
async def test_a_mix_holds_every_voice_as_loud_as_it_is_and_comes_every_20_ms() -> None:
    one = mixes()
    voices = [Voice(frequency) for frequency in TONES_HZ]
    mix = one.take(frozenset(voice.track for voice in voices))
    ear = Ear(mix.track)
    await together(*(voice.talk(3) for voice in voices))
    samples = ear.samples()[48_000:]
    for voice in voices:
        assert level_of(samples, voice.frequency_hz) == pytest.approx(0.1, rel=0.15)
    assert level_of(samples, 700) < 0.01
    steps = np.diff(ear.at_s)
    assert steps == pytest.approx(np.full(len(steps), 0.02), abs=1e-6)
    numbers = [packet.sequence - ear.packets[0].sequence for packet in ear.packets]
    ticks = [packet.timestamp - ear.packets[0].timestamp for packet in ear.packets]
    assert numbers == list(range(len(numbers)))
    assert ticks == [960 * number for number in numbers]
    one.release(mix)
    assert ear.has_ended


@in_virtual_time
async def test_everyone_hears_all_others_and_not_himself() -> None:
    one = mixes()
    voices = [Voice(frequency) for frequency in TONES_HZ]
    tracks = frozenset(voice.track for voice in voices)
    ears = [Ear(one.take(tracks - {voice.track}).track) for voice in voices]
    await together(*(voice.talk(2) for voice in voices))
    for voice, ear in zip(voices, ears, strict=True):
        samples = ear.samples()[48_000:]
        for other in voices:
            level = level_of(samples, other.frequency_hz)
            assert level < 0.005 if other is voice else level == pytest.approx(0.1, rel=0.15)


@in_virtual_time
async def test_the_same_voices_are_one_mix_until_the_last_taker_leaves() -> None:
    one = mixes()
    tracks = frozenset({Voice(500).track, Voice(900).track})
    first, second = one.take(tracks), one.take(tracks)
    assert first is second
    one.release(first)
    assert (len(one), first.track.readyState) == (1, "live")
    one.release(second)
    assert (len(one), first.track.readyState) == (0, "ended")
    # Nothing runs any more: else time would not stand still.
    assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


@in_virtual_time
async def test_there_are_no_more_distinct_mixes_than_may_be() -> None:
    one = mixes(most_mixes=1)
    voices = [Voice(frequency).track for frequency in TONES_HZ]
    mix = one.take(frozenset(voices))
    with pytest.raises(TooManyMixes):
        one.take(frozenset(voices[:2]))
    assert one.counters.refused_mixes == 1
    one.release(mix)


@in_virtual_time
async def test_five_voices_at_full_scale_are_not_clipped() -> None:
    one = mixes()
    voices = [Voice(frequency, amplitude=0.95) for frequency in (*TONES_HZ, 1700, 2100)]
    ear = Ear(one.take(frozenset(voice.track for voice in voices)).track)
    await together(*(voice.talk(2) for voice in voices))
    samples = ear.samples()
    assert np.abs(samples).max() <= 1.0
    assert np.abs(samples[48_000:]).max() > 0.5
    levels = [level_of(samples[48_000:], voice.frequency_hz) for voice in voices]
    assert min(levels) > 0.5 * max(levels)


@in_virtual_time
async def test_a_voice_is_mixed_soon_after_it_came() -> None:
    one = mixes()
    voices = [Voice(frequency) for frequency in TONES_HZ]
    one.take(frozenset(voice.track for voice in voices))
    await together(*(voice.talk(3) for voice in voices))
    for voice in voices:
        assert one.delay_s(voice.track) <= 0.06


@in_virtual_time
@pytest.mark.slow
async def test_clocks_that_are_300_ppm_apart_stay_whole() -> None:
    """An hour takes two minutes: `python benchmarks/mixing.py --hours 1`."""
    one = mixes()
    fast, slow = Voice(500, drift_ppm=150), Voice(900, drift_ppm=-150)
    ear = Ear(one.take(frozenset({fast.track, slow.track})).track)
    await together(fast.talk(90), slow.talk(90))
    last = ear.samples()[-10 * 48_000 : -48_000]
    for second in range(9):
        piece = last[second * 48_000 : (second + 1) * 48_000]
        for voice in (fast, slow):
            assert level_of(piece, voice.frequency_hz) == pytest.approx(0.1, rel=0.3), second
    assert max(one.delay_s(voice.track) for voice in (fast, slow)) <= 0.08


@in_virtual_time
async def test_a_voice_with_losses_is_concealed_and_the_other_is_whole() -> None:
    one = mixes()
    lossy, whole = Voice(500), Voice(900)
    ear = Ear(one.take(frozenset({lossy.track, whole.track})).track)
    await together(lossy.talk(4, lose_each=10), whole.talk(4))
    samples = ear.samples()[48_000:]
    assert level_of(samples, 900) == pytest.approx(0.1, rel=0.15)
    assert level_of(samples, 500) > 0.06


async def talk_in_long_packets(voice: Voice, seconds: float) -> None:
    """Of 120 ms, the longest that there are (RFC 6716 section 3.2.5): six frames in each."""
    settled = tone_payloads(voice.frequency_hz, seconds=12.0)[100:]
    long = [six_frames(payloads) for payloads in zip(*[iter(settled)] * 6, strict=False)]
    source, loop = voice.track.take_source(), asyncio.get_running_loop()
    for number in range(round(seconds / 0.12)):
        source.publish(1, number, number * 5760, False, long[number], loop.time())
        await asyncio.sleep(0.12)


def six_frames(payloads: tuple[bytes, ...]) -> bytes:
    """As one packet of code 3 (section 3.2.5), at a variable bit rate."""
    assert len({payload[0] for payload in payloads}) == 1
    lengths = b"".join(bytes([len(payload) - 1]) for payload in payloads[:-1])
    return bytes([payloads[0][0] | 3, 0x80 | 6]) + lengths + b"".join(payload[1:] for payload in payloads)


@in_virtual_time
async def test_a_voice_in_packets_of_120_ms_is_whole_beside_another() -> None:
    one = mixes()
    slow, usual = Voice(500), Voice(900)
    ear = Ear(one.take(frozenset({slow.track, usual.track})).track)
    await together(talk_in_long_packets(slow, 6), usual.talk(6))
    samples = ear.samples()[48_000:-48_000]
    assert level_of(samples, 900) == pytest.approx(0.1, rel=0.15)
    assert level_of(samples, 500) == pytest.approx(0.1, rel=0.15)


async def come_and_go(one: Mixes, mix: Mix, voice: Voice, times: int) -> None:
    alone = mix.voices
    for _ in range(times):
        await asyncio.sleep(0.13)
        mix = one.change(mix, alone | {voice.track})
        await asyncio.sleep(0.13)
        mix = one.change(mix, alone)


@in_virtual_time
async def test_a_voice_that_comes_and_goes_makes_no_step_and_leaves_nothing() -> None:
    one = mixes()
    stays = Voice(500, period_s=28)
    mix = one.take(frozenset({stays.track}))
    ear = Ear(mix.track)
    gone = await with_another(one, mix, stays)
    samples = ear.samples()[24_000:]
    # The steepest step of both tones together, and some for the codec.
    steepest = 2 * np.pi * 0.1 * (500 + 900) / 48_000
    assert np.abs(np.diff(samples)).max() < 1.5 * steepest
    gc.collect()
    assert gone() is None
    one.release(mix)


async def with_another(one: Mixes, mix: Mix, stays: Voice) -> weakref.ref[OpusTrack]:
    comes = Voice(900, period_s=28)
    await together(stays.talk(27), comes.talk(27), come_and_go(one, mix, comes, 100))
    return weakref.ref(comes.track)


@in_virtual_time
async def test_a_mix_may_be_left_when_nothing_of_a_word_is_still_to_be_played() -> None:
    one = mixes()
    voice, other = Voice(500), Voice(900)
    mix = one.take(frozenset({voice.track, other.track}))
    await voice.talk(1)
    assert not one.is_quiet_of(voice.track)
    assert one.is_quiet_of(other.track)
    await asyncio.sleep(0.3)
    assert one.is_quiet_of(voice.track)
    one.release(mix)


@in_virtual_time
async def test_loud_and_quiet_talkers_come_nearer_to_each_other() -> None:
    one = Mixes(VoiceRelay(), Failures())
    loud, quiet = Voice(500, amplitude=0.4), Voice(900, amplitude=0.04)
    ear = Ear(one.take(frozenset({loud.track, quiet.track})).track)
    await together(loud.talk(8), quiet.talk(8))
    last = ear.samples()[-2 * 48_000 :]
    assert level_of(last, 500) / level_of(last, 900) < 4


@in_virtual_time
async def test_a_packet_that_cannot_be_decoded_silences_nobody_else() -> None:
    one = mixes()
    broken, whole = Voice(500), Voice(900)
    broken._payloads = (b"\xff\xff\xff",)
    ear = Ear(one.take(frozenset({broken.track, whole.track})).track)
    await together(broken.talk(2), whole.talk(2))
    assert level_of(ear.samples()[48_000:], 900) == pytest.approx(0.1, rel=0.15)
