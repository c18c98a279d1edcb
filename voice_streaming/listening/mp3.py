"""The live MP3 of one stream, encoded once for all listeners."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..media.opus import CHANNELS, CLOCK_RATE_HZ, OpusPacket, Samples
from ..media.pcm import PcmBlock
from ..media.playout import Arrivals, Playout, PlayoutCounters
from ..settings.model import AudioSettings
from ..streams.relay import VoiceRelay
from ..streams.track import OpusTrack
from .lame import FRAME_SAMPLES, Mp3Encoder
from .listeners import ListenerCounters

logger = logging.getLogger(__name__)

PIECE_SAMPLES = CLOCK_RATE_HZ * 60 // 1000
"""Encoded in one call: about a millisecond, by which forwarded packets may be delayed."""

FILL_SAMPLES = CLOCK_RATE_HZ // 50
"""Silence is encoded in pieces of 20 ms, the usual length of packets."""

SETTLED_FRAMES = 3
"""Silent frames after which no earlier sound is left in the encoder, whose delay is a frame and 1,105 samples."""


class Mp3Format:
    """The format that the settings ask for, and the length of its frames."""

    def __init__(self, settings: AudioSettings) -> None:
        self.bitrate_bps = settings.bitrate_bps
        self.sample_rate_hz = settings.sample_rate_hz
        self.channels = settings.channels
        self.frame_s = FRAME_SAMPLES / settings.sample_rate_hz
        self.frame_opus_samples = self.frame_s * CLOCK_RATE_HZ
        """A frame's duration on Opus' clock; not whole at 44,100 Hz."""
        self.bytes_per_s = settings.bitrate_bps / 8

    def encoder(self) -> Mp3Encoder:
        """A new encoder of this format."""
        return Mp3Encoder(self.bitrate_bps, self.sample_rate_hz, self.channels)

    def frames_in(self, milliseconds: float) -> int:
        """The number of whole frames nearest to a duration."""
        return round(milliseconds / 1000 / self.frame_s)


@dataclass
class Mp3Counters(PlayoutCounters, ListenerCounters):
    """Counters since the start, over all streams and listeners."""

    encoder_s: float = 0.0
    """CPU seconds spent in the resampler and in LAME."""
    encoded_audio_s: float = 0.0
    """Seconds of audio that came out of it."""


class SilentFrames:
    """Encoded silence, for when there is nothing to encode."""

    def __init__(self, mp3: Mp3Format) -> None:
        encoder = mp3.encoder()
        second = np.zeros((CLOCK_RATE_HZ, CHANNELS), np.int16)
        # At 44,100 Hz frames differ by a byte, in a pattern that repeats after 49.
        frames = encoder.encode(second) + encoder.encode(second)
        self._frames = frames[SETTLED_FRAMES : SETTLED_FRAMES + 49]
        self._next = 0

    def take(self, count: int) -> list[bytes]:
        """The next `count` frames."""
        first = self._next
        self._next = (first + count) % len(self._frames)
        return [self._frames[(first + index) % len(self._frames)] for index in range(count)]


class FrameClock:
    """Real time as a count of MP3 frames."""

    def __init__(self, mp3: Mp3Format, now_s: Callable[[], float]) -> None:
        self._frame_s = mp3.frame_s
        self._now_s = now_s
        self._start_s = now_s()

    def now(self) -> float:
        return self.at(self._now_s())

    def at(self, monotonic_s: float) -> float:
        return (monotonic_s - self._start_s) / self._frame_s

    def time_of(self, frame: float) -> float:
        """Monotonic seconds at which a frame is due."""
        return self._start_s + frame * self._frame_s


class EncodingContext:
    """What all programmes share: format, clock, silent frames and counters."""

    def __init__(self, settings: AudioSettings, now_s: Callable[[], float]) -> None:
        self.mp3 = Mp3Format(settings)
        self.clock = FrameClock(self.mp3, now_s)
        self.silent = SilentFrames(self.mp3)
        self.counters = Mp3Counters()
        self.jitter_samples = settings.jitter_ms * CLOCK_RATE_HZ // 1000


class Programme:
    """One stream's MP3 frames in real time; `take` returns them in order.

    It consumes the stream's packets and PCM. What does not arrive in time is concealed, and then replaced by silence.
    """

    def __init__(self, context: EncodingContext, relay: VoiceRelay, track: OpusTrack, next_frame: int) -> None:
        """`next_frame` is the clock's number of the frame that `take` returns first."""
        self._context = context
        self._mp3 = context.mp3
        self._relay = relay
        self._track = track
        self._source = relay.pcm(track)
        self._playout = Playout(context.jitter_samples, context.counters)
        self._encoder = context.mp3.encoder()
        start_frame = int(context.clock.now())
        self._due = _Due(context, start_frame)
        # One frame more than has passed, for LAME's delay of a frame.
        self._ready: deque[bytes] = deque(context.silent.take(start_frame - next_frame + 1))
        self._unencoded: deque[Samples] = deque()
        self._silent_samples = 0
        """Samples of silence encoded since the last sound."""
        self._silence_owed = 0.0
        """Samples of silence not put out yet; a fraction, as the length of an MP3 frame is one on Opus' clock."""
        self._has_ended = False
        self._packet_times = _PacketTimes(self._playout.arrivals, self._due)
        relay.attach(track, self._packet_times)
        self._source.attach(self, pulls=True)

    @property
    def is_over(self) -> bool:
        """The stream has ended, and all of its frames have been taken."""
        return self._has_ended and not self._ready

    def on_pcm(self, block: PcmBlock) -> None:
        if self._has_ended:
            return
        try:
            silence, samples = self._playout.place(block, self._due(block.arrived_s))
            self._silence(silence)
            if len(samples):
                self._sound(samples)
        except Exception:  # noqa: BLE001 - _fail logs it
            self._fail()

    def on_end(self) -> None:
        if self._has_ended:
            return
        try:
            self._sound(np.zeros((round(SETTLED_FRAMES * self._mp3.frame_opus_samples), CHANNELS), np.int16))
            self._encode_all()
        except Exception:  # noqa: BLE001 - _fail logs it
            self._fail()
        self._has_ended = True

    def stop(self) -> None:
        """Detaches from the stream."""
        self._relay.detach(self._track, self._packet_times)
        self._source.detach(self)

    def prepare(self, count: int) -> bool:
        """Does a piece of the work that `take(count)` needs; False if there is nothing left to do.

        All of a chunk's work is done in a row: a codec that is called for every single packet finds a cold CPU cache
        each time, and takes twice as long.
        """
        if self._has_ended or len(self._ready) >= count:
            return False
        try:
            if self._unencoded:
                self._encode()
            elif not self._source.conceal():
                self._playout.be_silent(FILL_SAMPLES)
                self._silence(FILL_SAMPLES)
        except Exception:  # noqa: BLE001 - _fail logs it
            self._fail()
        return True

    def take(self, count: int) -> list[bytes]:
        """The next frames; after the end, silence."""
        while self.prepare(count):
            pass
        ready = min(count, len(self._ready))
        frames = [self._ready.popleft() for _ in range(ready)]
        return frames + self._context.silent.take(count - ready)

    def _fail(self) -> None:
        """To be called in an `except` block: logs the error and ends this programme. The stream gets another one."""
        logger.exception("The MP3 of track %s failed", self._track.id)
        self._has_ended = True

    def _silence(self, length: int) -> None:
        """Puts out silence, which is not encoded any more once SETTLED_FRAMES of it have been."""
        self._silence_owed += length
        frame = self._mp3.frame_opus_samples
        while self._silence_owed >= 1:
            if self._silent_samples < SETTLED_FRAMES * frame:
                piece = min(int(self._silence_owed), FILL_SAMPLES)
                self._silent_samples += piece
                self._silence_owed -= piece
                self._unencoded.append(np.zeros((piece, CHANNELS), np.int16))
            elif self._silence_owed >= frame:
                self._silence_owed -= frame
                self._encode_all()
                self._ready.extend(self._context.silent.take(1))
            else:
                # Less than a frame: kept until there is more silence, or sound.
                break

    def _sound(self, samples: Samples) -> None:
        owed = int(self._silence_owed)
        if owed:
            self._silence_owed -= owed
            samples = np.concatenate([np.zeros((owed, CHANNELS), np.int16), samples])
        self._silent_samples = 0
        self._unencoded.append(samples)

    def _encode_all(self) -> None:
        while self._unencoded:
            self._encode()

    def _encode(self) -> None:
        """Encodes up to about PIECE_SAMPLES."""
        piece: list[Samples] = []
        while self._unencoded and sum(map(len, piece)) < PIECE_SAMPLES:
            piece.append(self._unencoded.popleft())
        began_s = time.thread_time()
        frames = self._encoder.encode(np.concatenate(piece))
        self._context.counters.encoder_s += time.thread_time() - began_s
        self._context.counters.encoded_audio_s += len(frames) * self._mp3.frame_s
        self._ready.extend(frames)


class _Due:
    """Converts monotonic seconds to the number of samples due by then, counted from a frame of the clock."""

    def __init__(self, context: EncodingContext, start_frame: int) -> None:
        self._clock = context.clock
        self._start_frame = start_frame
        self._frame_opus_samples = context.mp3.frame_opus_samples

    def __call__(self, monotonic_s: float) -> float:
        return (self._clock.at(monotonic_s) - self._start_frame) * self._frame_opus_samples


class _PacketTimes:
    """Notes the arrival of a track's packets, also of those that are too late to be decoded."""

    def __init__(self, arrivals: Arrivals, due: _Due) -> None:
        self._arrivals = arrivals
        self._due = due

    def on_packet(self, packet: OpusPacket) -> None:
        self._arrivals.note(packet.timestamp, self._due(packet.arrived_s))

    def on_end(self) -> None:
        """A no-op: `Programme.on_end` follows when the last packet has been decoded."""
