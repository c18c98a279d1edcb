"""What a listener hears of what was said, whatever happens to the packets; in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.listening.distribution import (
    BURST_S,
    CHUNK_S,
    FRAME_S,
    Distribution,
    at_48_khz,
    largest_step,
    offsets_s,
)
from tests.support.audio import Samples, level_dbfs
from tests.support.matching import match
from tests.support.radio import RecordingTransport, decode_mp3, mp3_frames, packets_of, send
from tests.support.virtual_time import run
from voice_streaming.media.opus import OpusPacket


class Heard:
    """What a listener got that joined when the sender began to speak and left two seconds after its end."""

    def __init__(self, transport: RecordingTransport, distribution: Distribution, elapsed_s: float) -> None:
        self.frames = mp3_frames(transport.received)
        self.samples = at_48_khz(decode_mp3(self.frames))
        self.counters = distribution.channels.counters
        self.pcm_counters = distribution.relay.pcm_counters
        self.elapsed_s = elapsed_s
        self.longest_gap_s = float(np.diff([at_s for at_s, _ in transport.writes]).max())


def hear(packets: Sequence[OpusPacket], *, clock: float = 1.0, late_s: Callable[[int], float] | None = None) -> Heard:
    async def scene() -> Heard:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        stream = distribution.start()
        begun_s = loop.time()
        _, transport = distribution.listen(stream)
        await send(stream.track, packets, clock=clock, late_s=late_s)
        distribution.end(stream)
        await asyncio.sleep(2)
        return Heard(transport, distribution, loop.time() - begun_s)

    return run(scene())


def test_speech_is_heard_whole_in_real_time_and_at_a_constant_delay(
    packets: list[OpusPacket], reference: Samples
) -> None:
    heard = hear(packets)
    found = match(reference, heard.samples)
    assert found.score > 0.99
    assert found.duration_s == pytest.approx(reference.size / 48_000, abs=0.03), "the first or the last word is cut"
    # From the first byte to the last: no frame more or less than time has passed, but for the chunk under way.
    assert 0 <= heard.elapsed_s + BURST_S - len(heard.frames) * FRAME_S < CHUNK_S + FRAME_S
    assert heard.longest_gap_s == pytest.approx(CHUNK_S, abs=1e-6)
    offsets = offsets_s(reference, heard.samples)
    assert max(offsets) - min(offsets) < 0.002
    # The player starts at once, with half a second of the past; a packet holds 20 ms.
    assert max(offsets) + 0.02 < 0.7
    assert heard.pcm_counters.concealed_packets == 1, "at the end, to fade out"


def test_jitter_and_reordering_are_put_right(packets: list[OpusPacket], reference: Samples) -> None:
    dice = random.Random(1)
    lateness = [dice.uniform(0, 0.045) for _ in packets]
    heard = hear(packets, late_s=lateness.__getitem__)
    assert heard.pcm_counters.decoded_packets == len(packets)
    assert heard.pcm_counters.concealed_packets == 1
    # Time is stretched until the delay, which the first packet had set, is right: hence no score near 1.
    assert match(reference, heard.samples).score > 0.6


def test_lost_packets_are_concealed_without_a_click(packets: list[OpusPacket], reference: Samples) -> None:
    lost = {100, 150, 151, 200, 201, 202, 300}
    heard = hear(packets, late_s=lambda index: np.inf if index in lost else 0.0)
    assert heard.pcm_counters.concealed_packets == len(lost) + 1
    assert largest_step(heard.samples) <= 1.1 * largest_step(reference)
    found = match(reference, heard.samples)
    assert found.score > 0.9
    offsets = offsets_s(reference, heard.samples)
    assert max(offsets) - min(offsets) < 0.002
    # What came before goes on in each of the gaps, and dies away.
    begin = int(offsets[0] * 48_000)
    for index in lost:
        gap = heard.samples[begin + index * 960 : begin + (index + 1) * 960]
        before = heard.samples[begin + index * 960 - 480 : begin + index * 960]
        assert level_dbfs(gap) > level_dbfs(before) - 15


def test_a_hold_up_costs_what_came_too_late_and_no_delay(packets: list[OpusPacket], reference: Samples) -> None:
    """As a phone in a lift: a second of packets arrives at once, at its end."""
    heard = hear(packets, late_s=lambda index: (200 - index) * 0.02 if 150 <= index < 200 else 0.0)
    offsets = offsets_s(reference, heard.samples, at_least=0.95)
    assert len(offsets) > 10
    assert max(offsets) - min(offsets) < 0.002
    assert heard.counters.late_blocks + heard.pcm_counters.late_packets > 40
    assert largest_step(heard.samples) <= 1.1 * largest_step(reference)


def test_a_way_that_became_longer_is_followed(packets: list[OpusPacket], reference: Samples) -> None:
    heard = hear(packets, late_s=lambda index: 0.1 if index > 150 else 0.0)
    offsets = offsets_s(reference, heard.samples, at_least=0.95)
    assert offsets[-1] - offsets[0] == pytest.approx(0.1, abs=0.005)
    assert match(reference, heard.samples).score > 0.9


def test_a_pause_is_silent_and_keeps_the_delay(packets: list[OpusPacket], reference: Samples) -> None:
    """DTX or mute: the timestamps go on, the sequence numbers do not."""
    pause = 48_000 * 3
    paused = packets[:150] + [packet._replace(timestamp=packet.timestamp + pause) for packet in packets[150:]]
    heard = hear(paused)
    assert 0 <= heard.elapsed_s + BURST_S - len(heard.frames) * FRAME_S < CHUNK_S + FRAME_S
    offset = offsets_s(reference, heard.samples)[0]
    after = heard.samples[int((offset + 3.0 + 0.3) * 48_000) : int((offset + 6.0 - 0.1) * 48_000)]
    assert level_dbfs(after) < -80
    rest = heard.samples[int((offset + 6.0) * 48_000) :]
    offsets = [0.1 + o for o in offsets_s(reference[150 * 960 :], rest)]
    assert offsets[0] == pytest.approx(0.1, abs=0.01)
    assert largest_step(heard.samples) <= 1.1 * largest_step(reference)
    assert heard.counters.silence_samples > pause * 0.9
    assert heard.counters.encoded_audio_s < heard.elapsed_s - 2, "long silence needs no encoder"


@pytest.mark.slow
def test_a_senders_wrong_clock_is_made_up_for(packets: list[OpusPacket], reference: Samples) -> None:
    clock = 1 + 500e-6
    heard = hear(packets_of([packet.payload for packet in packets] * 9), clock=clock)
    assert heard.pcm_counters.concealed_packets == 1, "the buffer ran dry"
    # In the sender's time, of which a repetition of the speech is so long, the delay is this:
    repetition_s = len(packets) * 0.02
    compared_s = 8
    last_s = heard.samples.size // 48_000 - compared_s
    delays_of = {
        begin_s: [
            ((begin_s + window.start_s) * clock - window.reference_s) % repetition_s
            for window in match(reference, heard.samples[begin_s * 48_000 :][: compared_s * 48_000]).windows
            if window.score > 0.8
        ]
        for begin_s in (0, last_s)
    }
    assert min(map(len, delays_of.values())) >= 8
    # 500 ppm would be 40 ms in these 80 seconds; see test_playout.py for hours.
    assert abs(np.median(delays_of[last_s]) - np.median(delays_of[0])) < 0.02


def test_after_a_hold_up_of_the_whole_process_the_delay_is_the_same(
    packets: list[OpusPacket], reference: Samples
) -> None:
    """As by a suspended container: time passes, and nothing runs."""

    async def scene() -> Samples:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        stream = distribution.start()
        _, transport = distribution.listen(stream)
        await send(stream.track, packets[:200])
        loop._jumping.now_s += 60  # type: ignore[attr-defined]
        later = [packet._replace(timestamp=packet.timestamp + 60 * 48_000) for packet in packets[200:]]
        await send(stream.track, later)
        distribution.end(stream)
        await asyncio.sleep(1)
        assert distribution.channels.counters.encoded_audio_s < 12, "silence that nobody hears was encoded"
        return at_48_khz(decode_mp3(mp3_frames(transport.received)))

    samples = run(scene())
    # Of the minute, at most a second is made up.
    assert samples.size / 48_000 < len(packets) * 0.02 + 3.5
    delays = [window.start_s - window.reference_s for window in match(reference, samples).windows if window.score > 0.9]
    # A second of the minute was handed out; what is said after it is late by that alone.
    assert delays[-1] - delays[0] == pytest.approx(1.0, abs=CHUNK_S)


def test_behind_live_is_when_it_was_said(packets: list[OpusPacket], reference: Samples) -> None:
    """What is told of a place in a listener's audio, against the sound that is there; after a gap as well."""

    async def scene() -> tuple[float, list[tuple[float, float]]]:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        stream = distribution.start()
        begun_s = loop.time()
        listener, transport = distribution.listen(stream)
        sending = asyncio.create_task(send(stream.track, packets))
        await asyncio.sleep(3)
        transport.unsent_bytes = 40_000
        await asyncio.sleep(1.5)
        transport.unsent_bytes = 0
        await sending
        samples = at_48_khz(decode_mp3(mp3_frames(transport.received)))
        now_s = loop.time()
        windows = [window for window in match(reference, samples).windows if window.score > 0.9]
        ways_s = [
            (w.start_s, now_s - begun_s - w.reference_s - distribution.channels.behind_s(listener, w.start_s))
            for w in windows
        ]
        return distribution.channels.counters.dropped_frames * FRAME_S, ways_s

    dropped_s, ways_s = run(scene())
    assert dropped_s == pytest.approx(1.5, abs=CHUNK_S)
    assert {start_s > 4 for start_s, _ in ways_s} == {True, False}
    # Before the MP3: the time for late packets, and the encoder.
    assert min(way_s for _, way_s in ways_s) > 0.02
    assert max(way_s for _, way_s in ways_s) < 0.13
