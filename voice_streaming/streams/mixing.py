"""Mixes: tracks that carry several voices at once, each set of voices encoded once for all who take it."""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..media.loudness import Loudness
from ..media.mixing import (
    SILENCE,
    Limiter,
    Sums,
    SumStep,
    VoiceLine,
    cross_faded,
    plan_sums,
    sum_of,
    take_step,
)
from ..media.opus import CLOCK_RATE_HZ, FRAME_SAMPLES, OpusEncoder, OpusPacket, Sound
from ..media.pcm import PcmBlock
from ..media.playout import Arrivals, PlayoutCounters
from ..process.failures import Failures
from ..process.timers import Timer
from ..process.turns import Turns
from .relay import VoiceRelay
from .track import OpusTrack

MOST_BEHIND_FRAMES = 10
"""Frames that are made in a row when the process was held up; of what is older, nothing is played any more."""

PRIMING_FRAMES = 2
"""From which an encoder takes up the sound of another, so that a decoder notices no change: it looks back 26.5 ms."""

UNHEARD_FRAMES = 5
"""Frames for which a new mix waits for its first sound, as its voices are delayed: to a receiver a hole of 40 ms, which
its decoder fills, is better than so much silence within a word."""

Voices = frozenset[OpusTrack]
Frames = dict[OpusTrack, Sound | None]


class TooManyMixes(Exception):
    """There are as many distinct mixes as may be: who wanted another one shares one that is there."""


@dataclass
class MixCounters(PlayoutCounters):
    """Since the start, over all mixes."""

    encoded_frames: int = 0
    skipped_frames: int = 0
    """Not made, as the process was held up for longer than MOST_BEHIND_FRAMES."""
    refused_mixes: int = 0


class Mix:
    """Some voices in one track of Opus packets: 20 ms each, mono, in step with the clock of all mixes."""

    def __init__(self, voices: Voices, after: Mix | None) -> None:
        """For `Mixes.take` and `Mixes.change`."""
        self.track = OpusTrack()
        self.voices = voices
        self.takers = 0
        self.former: Voices | None = frozenset() if after is None else after.voices
        """What the next frame fades from."""
        self._source = self.track.take_source(exclusive=True)
        self._encoder = OpusEncoder()
        self._limiter: Limiter = Limiter() if after is None else copy.copy(after._limiter)
        self._recent: deque[Sound] = deque(maxlen=PRIMING_FRAMES)
        self._unheard = UNHEARD_FRAMES
        if after is not None:
            self._recent.extend(after._recent)
            self._unheard = after._unheard
        self._sequence = -1

    def play(self, number: int, sound: Sound | None, former: Sound | None) -> bool:
        """Publishes the clock's frame of that number; False if there was nothing to be heard yet.

        `former` is the sum of the voices in `self.former`.
        """
        if self.former is not None:
            sound = cross_faded(former, sound)
        if self._sequence < 0 and not self._begins(sound):
            return False
        frame = self._limiter.limited(SILENCE if sound is None else sound)
        self._recent.append(frame)
        self._publish(number, frame)
        return True

    def stop(self) -> None:
        """Ends the track."""
        self.track.stop()

    def _begins(self, sound: Sound | None) -> bool:
        """Whether the first packet is due; then the encoder is taken to where that of the mix before was."""
        if sound is None and self._unheard:
            self._unheard -= 1
            return False
        for frame in self._recent:
            self._encoder.encode(frame)
        return True

    def _publish(self, number: int, frame: Sound) -> None:
        try:
            payload = self._encoder.encode(frame)
        except Exception:
            # Whatever is wrong with it, the next frame gets another.
            self._encoder = OpusEncoder()
            raise
        self._sequence += 1
        timestamp = number * FRAME_SAMPLES & 0xFFFF_FFFF
        now_s = asyncio.get_running_loop().time()
        self._source.publish(0, self._sequence & 0xFFFF, timestamp, self._sequence == 0, payload, now_s)


class Mixes:
    """One mix for each set of voices that somebody takes, and one clock for all; when nothing is mixed nothing runs.

    Each voice is decoded once and evened once, whatever number of mixes it is in. A frame of all mixes is made in
    pieces, each in a turn of its own. To be used with a running loop.
    """

    def __init__(
        self,
        relay: VoiceRelay,
        failures: Failures | None = None,
        *,
        even_loudness: bool = True,
        most_mixes: int = 32,
    ) -> None:
        self.counters = MixCounters()
        self._relay = relay
        self._failures = Failures() if failures is None else failures
        self._evens = even_loudness
        self.most = most_mixes
        """Distinct mixes that there may be."""
        self._mixes: dict[Voices, Mix] = {}
        self._voices: dict[OpusTrack, _Voice] = {}
        self._uses: Counter[OpusTrack] = Counter()
        """Of each voice: the mixes that have it, and those that fade out from it."""
        self._loudness: weakref.WeakKeyDictionary[OpusTrack, Loudness] = weakref.WeakKeyDictionary()
        """Remembered of a voice that comes and goes."""
        self._plan: list[SumStep[OpusTrack]] = []
        self._timer = Timer("mixing", self._begin_frame, self._failures)
        self._turns = Turns("mixing", self._failures)
        self._start_s = 0.0
        self._number = 0
        """The frame that is made next, or now."""
        self._pieces: Iterator[None] | None = None
        """The rest of the work on a frame."""

    def __len__(self) -> int:
        """Distinct mixes that there are."""
        return len(self._mixes)

    def take(self, voices: Voices, *, after: Mix | None = None, is_shared: bool = False) -> Mix:
        """The mix of these voices, for one more taker; it carries each voice from its next packet on.

        `voices` has one or more; the packet that is being handed out counts as the next. With `after`, a mix that did
        not exist goes on where that one is now, and fades over. Raises TooManyMixes, which is counted, unless it
        `is_shared`: there are as few of these as there are rooms.
        """
        if not voices:
            raise ValueError("a mix of no voices")
        mix = self._mixes.get(voices)
        if mix is None:
            if len(self._mixes) >= self.most and not is_shared:
                self.counters.refused_mixes += 1
                raise TooManyMixes(f"{len(self._mixes)} distinct mixes")
            mix = self._begin(voices, after)
        mix.takers += 1
        return mix

    def change(self, mix: Mix, voices: Voices) -> Mix:
        """For a taker of `mix` that wants other voices: what it takes from now on, which may be the same object.

        The track of a mix that has no other taker goes on with the other voices, which come and go with a fade. Else
        it is as `take` and `release`, with the same fade. Raises TooManyMixes; then the taker still has `mix`.
        """
        if voices == mix.voices:
            return mix
        if mix.takers > 1 or voices in self._mixes or not voices:
            other = self.take(voices, after=mix)
            self.release(mix)
            return other
        del self._mixes[mix.voices]
        self._hold(voices)
        if mix.former is None:
            mix.former = mix.voices
        else:
            self._let_go(mix.voices)
        mix.voices = voices
        self._mixes[voices] = mix
        self._plan = plan_sums(self._mixes)
        return mix

    def release(self, mix: Mix) -> None:
        """One taker less; without any the track ends."""
        mix.takers -= 1
        if mix.takers:
            return
        del self._mixes[mix.voices]
        self._let_go(mix.voices)
        self._let_go(mix.former or ())
        mix.former = None
        mix.stop()
        self._plan = plan_sums(self._mixes)
        if not self._mixes:
            self._timer.cancel()
            self._pieces = None

    def is_quiet_of(self, track: OpusTrack) -> bool:
        """Whether nothing of a word of this voice is still to be played, so that the mix may be left without loss.

        Whatever arrives from now on is for who takes its place. True for a voice that is in no mix.
        """
        voice = self._voices.get(track)
        return voice is None or voice.is_quiet_from((self._number - 1) * FRAME_SAMPLES)

    def delay_s(self, track: OpusTrack) -> float:
        """What mixing delays this voice by now, compared with its packets; 0 for a voice that is in no mix."""
        voice = self._voices.get(track)
        return 0.0 if voice is None else voice.delay_s

    def _begin(self, voices: Voices, after: Mix | None) -> Mix:
        if not self._mixes:
            self._start_s, self._number = asyncio.get_running_loop().time(), 0
            self._timer.set(self._start_s)
        mix = Mix(voices, after)
        self._hold(voices)
        self._hold(mix.former or ())
        self._mixes[voices] = mix
        self._plan = plan_sums(self._mixes)
        return mix

    def _hold(self, voices: Voices | tuple[()]) -> None:
        for track in voices:
            self._uses[track] += 1
            if track not in self._voices:
                loudness = self._loudness.setdefault(track, Loudness(evens=self._evens))
                line = VoiceLine((self._number + 1) * FRAME_SAMPLES, loudness, self.counters)
                self._voices[track] = _Voice(self._relay, track, line, self._due, self._failures)

    def _let_go(self, voices: Voices | tuple[()]) -> None:
        for track in voices:
            self._uses[track] -= 1
            if not self._uses[track]:
                del self._uses[track]
                self._voices.pop(track).stop()

    def _due(self, monotonic_s: float) -> float:
        """The position that is played at that time."""
        return (monotonic_s - self._start_s) * CLOCK_RATE_HZ

    def _begin_frame(self) -> None:
        behind = int(self._due(asyncio.get_running_loop().time())) // FRAME_SAMPLES - self._number
        if behind > MOST_BEHIND_FRAMES:
            self.counters.skipped_frames += behind
            self._number += behind
        self._pieces = self._work(self._number)
        self._turns.add(self._do_piece)

    def _do_piece(self) -> None:
        if self._pieces is None:
            return
        with self._failures.guard("mixing"):
            for _ in self._pieces:
                self._turns.add(self._do_piece)
                return
        self._pieces = None
        self._number += 1
        self._timer.set(self._start_s + self._number * FRAME_SAMPLES / CLOCK_RATE_HZ)

    def _work(self, number: int) -> Iterator[None]:
        """Makes a frame of all mixes; each step takes less than a millisecond."""
        begin = number * FRAME_SAMPLES
        for voice in list(self._voices.values()):
            while voice.fill(begin + FRAME_SAMPLES):
                yield
        frames = {track: voice.read(begin) for track, voice in self._voices.items()}
        sums: Sums[OpusTrack] = {frozenset(): None}
        for step in self._plan:
            with self._failures.guard("mixing"):
                self._make(number, step, sums, frames)
            yield

    def _make(self, number: int, step: SumStep[OpusTrack], sums: Sums[OpusTrack], frames: Frames) -> None:
        sound = take_step(step, sums, frames)
        mix = self._mixes.get(step.voices)
        if mix is None:
            return
        former, mix_former = mix.former, None
        if former is not None:
            mix_former = sum_of(former, frames)
        try:
            self.counters.encoded_frames += mix.play(number, sound, mix_former)
        finally:
            if former is not None and mix.former is former:
                mix.former = None
                self._let_go(former)


class _Voice:
    """A voice of the mixes: from its track to its line."""

    def __init__(
        self, relay: VoiceRelay, track: OpusTrack, line: VoiceLine, due: Callable[[float], float], failures: Failures
    ) -> None:
        self._relay = relay
        self._track = track
        self._line = line
        self._due = due
        self._failures = failures
        self._is_attached = True
        self._packets = _Packets(line.arrivals, due)
        # In this order: a decoder that others have may still hold packets that were not handed to us.
        relay.attach(track, self._packets)
        self._pcm = relay.pcm(track)
        self._pcm.attach(self)

    @property
    def delay_s(self) -> float:
        return self._line.delay / CLOCK_RATE_HZ

    def on_pcm(self, block: PcmBlock) -> None:
        first = self._packets.first_timestamp
        if first is None or block.timestamp < first:
            return
        with self._failures.guard("mixing"):
            self._line.place(block, self._due(block.arrived_s))

    def on_end(self) -> None:
        """A no-op: silence follows."""

    def fill(self, end: int) -> bool:
        """Does a piece of what is needed to know the sound before `end`; False if nothing is left to do."""
        missing = end - self._line.position
        if missing <= 0 or not self._is_attached:
            return False
        is_there = False
        with self._failures.guard("mixing"):
            is_there = self._pcm.conceal()
        if not is_there:
            self._line.be_silent(missing)
        return True

    def read(self, begin: int) -> Sound | None:
        return self._line.read(begin)

    def is_quiet_from(self, position: int) -> bool:
        return self._line.is_quiet_from(position) and not self._pcm.has_waiting_packets

    def stop(self) -> None:
        self._is_attached = False
        self._relay.detach(self._track, self._packets)
        self._pcm.detach(self)


class _Packets:
    """Notes when a track's packets arrived, also of those that are too late to be decoded."""

    def __init__(self, arrivals: Arrivals, due: Callable[[float], float]) -> None:
        self.first_timestamp: int | None = None
        self._arrivals = arrivals
        self._due = due

    def on_packet(self, packet: OpusPacket) -> None:
        if self.first_timestamp is None:
            self.first_timestamp = packet.timestamp
        self._arrivals.note(packet.timestamp, self._due(packet.arrived_s))

    def on_end(self) -> None:
        """A no-op: the decoder tells when its last packet is decoded."""
