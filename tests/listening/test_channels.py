"""The live MP3 in virtual time: the whole way from Opus packets to each listener's bytes, without sockets."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from tests.support.audio import Samples, decode_opus, encode_opus, level_dbfs
from tests.support.matching import match
from tests.support.radio import RecordingTransport, decode_mp3, mp3_frames, packets_of, send
from tests.support.virtual_time import VirtualTimeLoop, run
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.icy import IcyInterleaver
from voice_streaming.listening.lame import Mp3Encoder
from voice_streaming.listening.listeners import Listener
from voice_streaming.media.opus import OpusPacket
from voice_streaming.media.opus import Samples as PcmSamples
from voice_streaming.process.failures import Failures
from voice_streaming.process.timers import RETRY_S
from voice_streaming.settings.model import AudioSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState
from voice_streaming.streams.track import OpusTrack

FRAME_S = 1152 / 44_100
BURST_S = 0.5
CHUNK_S = round(AudioSettings().chunk_ms / 1000 / FRAME_S) * FRAME_S


class Distribution:
    """A Channels with its registry."""

    def __init__(self, settings: AudioSettings | None = None) -> None:
        self.relay = VoiceRelay()
        self.streams: dict[str, Stream] = {}
        self.failures = Failures()
        self.channels = Channels(settings or AudioSettings(), self.relay, self.streams, self.failures)

    def start(self, stream_id: str = "kitchen") -> Stream:
        stream = Stream(stream_id, stream_id, OpusTrack(), "sender")
        stream.advance(StreamState.ACTIVE)
        # Real time does not pass here, and so does not tell which stream is the newest.
        stream.started_s = asyncio.get_running_loop().time()
        self.streams[stream_id] = stream
        self.channels.on_stream_live(stream)
        return stream

    def end(self, stream: Stream) -> None:
        stream.advance(StreamState.ENDED)
        stream.track.stop()
        self.channels.on_stream_ended(stream, "sender left")
        del self.streams[stream.id]

    def listen(self, stream: Stream | None, *, follows: bool = True) -> tuple[Listener, RecordingTransport]:
        transport = RecordingTransport()
        listener = Listener(transport, follows=follows, chunked=False, icy=None)
        self.channels.join(listener, stream)
        return listener, transport


class Heard:
    """What a listener got that joined when the sender began to speak and left two seconds after its end."""

    def __init__(self, transport: RecordingTransport, distribution: Distribution, elapsed_s: float) -> None:
        self.frames = mp3_frames(transport.received)
        self.samples = at_48_khz(decode_mp3(self.frames))
        self.counters = distribution.channels.counters
        self.pcm_counters = distribution.relay.pcm_counters
        self.elapsed_s = elapsed_s
        self.longest_gap_s = float(np.diff([at_s for at_s, _ in transport.writes]).max())


def at_48_khz(samples: Samples) -> Samples:
    frame = AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
    frame.sample_rate = 44_100
    resampler = AudioResampler("fltp", "mono", 48_000)
    return np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])


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


@pytest.fixture(scope="module")
def packets(speech: Samples) -> list[OpusPacket]:
    return packets_of(encode_opus(speech))


@pytest.fixture(scope="module")
def reference(packets: list[OpusPacket]) -> Samples:
    """What the sender's packets hold."""
    return decode_opus(packet.payload for packet in packets)


def offsets_s(reference: Samples, heard: Samples, *, at_least: float = 0.8) -> list[float]:
    """How far behind the reference each second is, where it is clearly found."""
    return [w.start_s - w.reference_s for w in match(reference, heard).windows if w.score > at_least]


def largest_step(samples: Samples) -> float:
    return float(np.abs(np.diff(samples)).max())


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


def test_every_listener_gets_the_same_object(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        distribution = Distribution()
        stream = distribution.start()
        transports = [distribution.listen(stream)[1] for _ in range(120)]
        await send(stream.track, packets[:50])
        assert distribution.channels.encoders == 1
        last = {id(transport.writes[-1][1]) for transport in transports}
        assert len(last) == 1
        distribution.channels.close()

    run(scene())


def test_the_encoder_runs_only_while_someone_listens_and_a_while_after(packets: list[OpusPacket]) -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(encoder_linger_s=2.0))
        stream = distribution.start()
        await send(stream.track, packets[:50])
        assert distribution.channels.encoders == 0
        assert distribution.relay.pcm_counters.decoded_packets == 0
        listener, _ = distribution.listen(stream)
        await send(stream.track, packets[50:100])
        await asyncio.sleep(0.2)
        assert distribution.relay.pcm_counters.decoded_packets == 50
        distribution.channels.leave(listener)
        await asyncio.sleep(1.5)
        assert distribution.channels.encoders == 1
        await asyncio.sleep(1)
        assert distribution.channels.encoders == 0
        await send(stream.track, packets[100:150])
        assert distribution.relay.pcm_counters.decoded_packets == 50

    run(scene())


def test_latest_is_a_radio(packets: list[OpusPacket], reference: Samples) -> None:
    """Silence, a stream, silence, another stream that a newer one interrupts: on one connection, frame by frame."""

    async def scene() -> tuple[Samples, float]:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        begun_s = loop.time()
        _, transport = distribution.listen(None)
        await asyncio.sleep(1.03)
        for seconds in (2.0, 3.0):
            stream = distribution.start()
            await send(stream.track, packets)
            assert stream.listeners == 1
            distribution.end(stream)
            await asyncio.sleep(seconds)
        older = distribution.start("older")
        speaking = asyncio.create_task(send(older.track, packets))
        await asyncio.sleep(3)
        newer = distribution.start("newer")
        assert (older.listeners, newer.listeners) == (0, 1)
        await send(newer.track, packets)
        await speaking
        distribution.end(newer)
        await asyncio.sleep(1)
        assert older.listeners == 1, "the older stream is the newest again"
        frames = mp3_frames(transport.received)
        assert 0 <= loop.time() - begun_s + BURST_S - len(frames) * FRAME_S < CHUNK_S + FRAME_S
        return at_48_khz(decode_mp3(frames)), loop.time() - begun_s

    samples, _ = run(scene())
    length_s = reference.size / 48_000
    for begin_s, said_s in ((1.0, length_s), (3.0 + length_s, length_s), (6.0 + 2 * length_s, 2.8)):
        part = samples[int((begin_s + 0.3) * 48_000) : int((begin_s + said_s + 0.9) * 48_000)]
        found = match(reference, part)
        assert found.score > 0.97
        assert found.duration_s == pytest.approx(said_s, abs=0.35)
    assert match(reference, samples[int((9.6 + 2 * length_s) * 48_000) :]).score > 0.95
    assert level_dbfs(samples[: int(1.5 * 48_000)]) == -np.inf
    assert largest_step(samples) <= 1.1 * largest_step(reference)


def test_one_who_does_not_follow_hears_the_end_and_is_let_go(packets: list[OpusPacket], reference: Samples) -> None:
    async def scene() -> Samples:
        distribution = Distribution()
        listener, transport = distribution.listen(None, follows=False)
        await asyncio.sleep(1)
        stream = distribution.start()
        await send(stream.track, packets)
        distribution.end(stream)
        async with asyncio.timeout(1):
            await listener.gone
        return at_48_khz(decode_mp3(mp3_frames(transport.received)))

    found = match(reference, run(scene()))
    assert found.score > 0.99
    assert found.duration_s == pytest.approx(reference.size / 48_000, abs=0.03)


def test_a_newcomer_is_as_far_behind_as_the_first(packets: list[OpusPacket], reference: Samples) -> None:
    async def scene() -> list[tuple[float, Samples]]:
        loop = asyncio.get_running_loop()
        distribution = Distribution()
        stream = distribution.start()
        begun_s = loop.time()
        speaking = asyncio.create_task(send(stream.track, packets))
        heard = []
        for _ in range(8):
            await asyncio.sleep(0.613)
            heard.append((loop.time() - begun_s, distribution.listen(stream)[1]))
        await speaking
        distribution.channels.close()
        return [(joined_s, at_48_khz(decode_mp3(mp3_frames(one.received)))) for joined_s, one in heard]

    for joined_s, samples in run(scene()):
        delays = [joined_s + offset for offset in offsets_s(reference, samples, at_least=0.95)]
        assert delays
        # A packet's first sample is 20 ms old when it comes.
        assert max(delays) + 0.02 < 0.7
        assert min(delays) > 0.5


def test_silence_can_be_limited() -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(max_silence_s=5.0))
        transport = RecordingTransport()
        listener = Listener(transport, follows=True, chunked=True, icy=None)
        distribution.channels.join(listener, None)
        await asyncio.sleep(4.8)
        assert not listener.gone.done()
        await asyncio.sleep(0.5)
        assert listener.gone.done()
        assert transport.received.endswith(b"\r\n0\r\n\r\n"), "nothing follows the last chunk"

    run(scene())


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


def test_a_chunk_as_long_as_the_longest_hold_up_is_written_whole() -> None:
    async def scene() -> None:
        distribution = Distribution(AudioSettings(chunk_ms=1000))
        _, transport = distribution.listen(None)
        await asyncio.sleep(1.5)
        # The chunk that is due in half a second will be late by 0.1 s.
        asyncio.get_running_loop()._jumping.now_s += 0.6  # type: ignore[attr-defined]
        await asyncio.sleep(1.5)
        # Three chunks, that tenth, and the burst.
        assert len(mp3_frames(transport.received)) * FRAME_S > 3.05 + BURST_S - FRAME_S

    run(scene())


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


def test_icy_listeners_get_the_same_audio(packets: list[OpusPacket]) -> None:
    async def scene() -> tuple[bytes, bytes]:
        distribution = Distribution()
        stream = distribution.start()
        _, plain = distribution.listen(stream)
        transport = RecordingTransport()
        distribution.channels.join(Listener(transport, follows=True, chunked=False, icy=IcyInterleaver()), stream)
        await send(stream.track, packets)
        distribution.channels.close()
        return plain.received, transport.received

    plain, interleaved = run(scene())
    audio, position = b"", 0
    while position + 16_000 < len(interleaved):
        audio += interleaved[position : position + 16_000]
        position += 16_000 + 1 + interleaved[position + 16_000] * 16
    audio += interleaved[position:]
    assert audio == plain


def test_listeners_are_counted_for_good_and_those_who_are_there() -> None:
    async def scene() -> None:
        distribution = Distribution()
        channels = distribution.channels
        first, _ = distribution.listen(None)
        distribution.listen(None)
        assert (channels.counters.listeners_total, channels.listeners) == (2, 2)
        channels.leave(first)
        channels.leave(first)
        assert (channels.counters.listeners_total, channels.listeners) == (2, 1)

    run(scene())


# One failure never silences the others


def fail(*_: object) -> None:
    raise ZeroDivisionError("by design")


async def play_on(distribution: Distribution, transports: Sequence[RecordingTransport], seconds: float) -> list[float]:
    """How many seconds of MP3 each gets in that time."""
    before = [len(transport.received) for transport in transports]
    await asyncio.sleep(seconds)
    bytes_per_s = AudioSettings().bitrate_bps / 8
    return [
        (len(transport.received) - count) / bytes_per_s for transport, count in zip(transports, before, strict=True)
    ]


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
