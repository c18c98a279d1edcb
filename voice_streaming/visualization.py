"""A live picture of a voice: level, peak and spectrum, about ten times a second.

`Analyser` is the arithmetic and knows no streams. `VisualizationBroadcast` runs one for a stream, only while somebody
subscribes, and gives every subscriber the same text.

Levels are in dBFS, and follow one convention throughout: 0 dBFS is the largest sample, and a sine that reaches it has
a peak of 0 dBFS and an RMS level of -3.01 dBFS (not the 0 of AES17). The band that holds the sine reads that RMS level
too, so that the powers of all bands add up to the level, as far as the bands reach.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from .opus import CLOCK_RATE_HZ

logger = logging.getLogger(__name__)

INTERVAL_SAMPLES = CLOCK_RATE_HZ // 10
"""One analysis per 100 ms: as often as an eye follows a meter."""

FULL_SCALE = 32_768
"""The largest 16-bit sample: 0 dBFS."""

WINDOW_SAMPLES = 8192
"""171 ms. Half of a Hann window's height spans half of its length, so that with a new window every 100 ms no moment
goes unseen; and 5.9 Hz between bins puts several into the lowest bands."""

BANDS = 32
LOWEST_HZ, HIGHEST_HZ = 80.0, 16_000.0
"""From the lowest voices to the end of what a telephone headset or MP3 of a voice carries."""

FLOOR_DB = -100.0
"""What silence reads; 16-bit samples reach down to about -96."""

SILENCE_AFTER_S = 0.3
"""Without audio for this long, meters are told to fall, and told again as often: longer than a hiccup of Wi-Fi, shorter
than a meter may stand still without looking wrong."""

Samples = npt.NDArray[np.int16]
"""Shape (samples, channels), at CLOCK_RATE_HZ."""


class Analysis(NamedTuple):
    """One moment of a voice, in dBFS rounded to 0.1, never below FLOOR_DB."""

    level: float
    """RMS over all channels of the last INTERVAL_SAMPLES."""
    peak: float
    """The largest sample of the same."""
    spectrum: list[float]
    """BANDS values, from the lowest band to the highest, over the last WINDOW_SAMPLES and all channels."""


SILENCE = Analysis(FLOOR_DB, FLOOR_DB, [FLOOR_DB] * BANDS)


def band_edges_hz() -> npt.NDArray[np.float64]:
    """BANDS + 1 frequencies, each the same factor (about a quarter of an octave) above the one before."""
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1)


class Analyser:
    """Takes the samples of one voice in order, in pieces of any length, and analyses them every INTERVAL_SAMPLES.

    A tone reads its own level to within 0.1 dB, to within 0.6 dB in the lowest bands, which are narrower than the
    window's response to a tone; on the edge of two bands, half of its power is in each.
    """

    def __init__(self, channels: int = 2) -> None:
        window = np.hanning(WINDOW_SAMPLES + 1)[:-1]
        self._window = window.astype(np.float32)
        # Parseval's theorem for a one-sided spectrum, with the power that the window takes given back: the squares of
        # the bins times this add up to the mean square of the samples.
        self._power_of_bin = 2 / (WINDOW_SAMPLES * float(np.sum(window**2)))
        # Bin k stands for the frequencies from k - 1/2 to k + 1/2, which two bands may share.
        self._edges_in_bins = band_edges_hz() * WINDOW_SAMPLES / CLOCK_RATE_HZ + 0.5
        self._bins = int(self._edges_in_bins[-1]) + 2
        self._bin_edges = np.arange(self._bins + 1)
        self._recent = np.zeros((channels, WINDOW_SAMPLES), np.float32)
        """Full scale is 1. The last INTERVAL_SAMPLES fill up, and move to the left when they have been analysed."""
        self._fresh = 0

    def feed(self, samples: Samples) -> Analysis | None:
        """The newest analysis if these samples completed one, else None. The samples are copied."""
        analysis = None
        while len(samples):
            begin = WINDOW_SAMPLES - INTERVAL_SAMPLES + self._fresh
            taken = min(len(samples), WINDOW_SAMPLES - begin)
            np.multiply(samples[:taken].T, np.float32(1 / FULL_SCALE), out=self._recent[:, begin : begin + taken])
            samples = samples[taken:]
            self._fresh += taken
            if self._fresh == INTERVAL_SAMPLES:
                analysis = self._analyse()
                self._recent[:, :-INTERVAL_SAMPLES] = self._recent[:, INTERVAL_SAMPLES:]
                self._fresh = 0
        return analysis

    def clear(self) -> None:
        """Forgets all samples: what comes next does not follow them."""
        self._recent[:] = 0
        self._fresh = 0

    def _analyse(self) -> Analysis:
        recent = self._recent
        if len(recent) == 2 and np.array_equal(recent[0], recent[1]):
            # Nearly every microphone is mono, and decodes to two channels alike.
            recent = recent[:1]
        newest = recent[:, -INTERVAL_SAMPLES:]
        peak = max(float(newest.max()), -float(newest.min()))
        level_power = float(np.mean([np.dot(channel, channel) for channel in newest])) / INTERVAL_SAMPLES
        bins = np.fft.rfft(recent * self._window)[:, : self._bins]
        power = (np.square(bins.real) + np.square(bins.imag)).mean(axis=0, dtype=np.float64) * self._power_of_bin
        up_to_edge = np.concatenate(([0.0], np.cumsum(power)))
        bands = np.diff(np.interp(self._edges_in_bins, self._bin_edges, up_to_edge))
        level_db, peak_db, *spectrum_db = _decibels(np.array([level_power, peak**2, *bands]))
        return Analysis(level_db, peak_db, spectrum_db)


def _decibels(powers: npt.NDArray[np.float64]) -> list[float]:
    floor = 10 ** (FLOOR_DB / 10)
    # Adding 0 makes 0.0 of the -0.0 that rounding leaves.
    decibels: list[float] = (np.round(10 * np.log10(np.maximum(powers, floor)), 1) + 0.0).tolist()
    return decibels


class PcmBlock(Protocol):
    @property
    def samples(self) -> Samples: ...


class PcmSource(Protocol):
    """A stream's PCM, decoded for whoever is attached."""

    def attach(self, sink: VisualizationBroadcast) -> None: ...
    def detach(self, sink: VisualizationBroadcast) -> None: ...


class AudioData(msgspec.Struct, tag="audio_data"):
    """The `audio_data` message of the signalling protocol."""

    stream_id: str
    timestamp: float
    """Unix seconds."""
    level: float
    peak: float
    spectrum: list[float]


class VisualizationBroadcast:
    """One stream's `audio_data`: analysed once, serialised once, and given to every subscriber.

    It is attached to the PCM while somebody subscribes, and only then. When no PCM comes, as while the sender pauses,
    subscribers get SILENCE, so that their meters fall; the end of the stream gives one last SILENCE, and no subscriber
    is left. Runs on the event loop's thread.
    """

    def __init__(self, stream_id: str, source: PcmSource) -> None:
        self.stream_id = stream_id
        self._source = source
        self._subscribers: tuple[Callable[[str], None], ...] = ()
        self._analyser = Analyser()
        self._heard_s = 0.0
        self._silence_timer: asyncio.TimerHandle | None = None

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    def subscribe(self, send: Callable[[str], None]) -> None:
        """Calls `send` with the text of every message from now on; it must not block, and may replace a message that
        it was given before and that has not left yet. Twice is as once."""
        if send in self._subscribers:
            return
        self._subscribers = (*self._subscribers, send)
        if len(self._subscribers) == 1:
            self._begin()

    def unsubscribe(self, send: Callable[[str], None]) -> None:
        """Calls `send` no more; safe within its own call, and when it never subscribed."""
        if send not in self._subscribers:
            return
        self._subscribers = tuple(other for other in self._subscribers if other != send)
        if not self._subscribers:
            self._rest()

    def on_pcm(self, block: PcmBlock) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        analysis = self._analyser.feed(block.samples)
        if analysis is not None:
            self._tell(analysis)

    def on_end(self) -> None:
        self._tell(SILENCE)
        self._subscribers = ()
        self._rest()

    def _begin(self) -> None:
        self._analyser.clear()
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        self._silence_timer = loop.call_later(SILENCE_AFTER_S, self._notice_silence)
        self._source.attach(self)

    def _rest(self) -> None:
        if self._silence_timer is not None:
            self._silence_timer.cancel()
            self._silence_timer = None
        self._source.detach(self)

    def _notice_silence(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._heard_s + SILENCE_AFTER_S - loop.time()
        if left_s <= 0:
            self._analyser.clear()
            left_s = SILENCE_AFTER_S
            self._silence_timer = loop.call_later(left_s, self._notice_silence)
            self._tell(SILENCE)
        else:
            self._silence_timer = loop.call_later(left_s, self._notice_silence)

    def _tell(self, analysis: Analysis) -> None:
        text = msgspec.json.encode(AudioData(self.stream_id, round(time.time(), 3), *analysis)).decode()
        for send in self._subscribers:
            try:
                send(text)
            except Exception:
                logger.exception("A subscriber of the picture of %s failed, and gets no more", self.stream_id)
                self.unsubscribe(send)


class Pictures:
    """The broadcasts of all streams that somebody watches, one for each."""

    def __init__(self) -> None:
        self._broadcasts: dict[str, VisualizationBroadcast] = {}

    def subscribe(self, stream_id: str, source: PcmSource, send: Callable[[str], None]) -> None:
        """See `VisualizationBroadcast.subscribe`."""
        broadcast = self._broadcasts.get(stream_id)
        if broadcast is None:
            broadcast = self._broadcasts[stream_id] = VisualizationBroadcast(stream_id, source)
        broadcast.subscribe(send)

    def unsubscribe(self, stream_id: str, send: Callable[[str], None]) -> None:
        """See `VisualizationBroadcast.unsubscribe`; safe for a stream that has ended."""
        broadcast = self._broadcasts.get(stream_id)
        if broadcast is not None:
            broadcast.unsubscribe(send)
            if not broadcast.subscribers:
                del self._broadcasts[stream_id]

    def forget(self, stream_id: str) -> None:
        """The stream has ended."""
        self._broadcasts.pop(stream_id, None)
