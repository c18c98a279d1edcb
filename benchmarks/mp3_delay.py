"""How far behind live an MP3 is: the tones of marked_opus.py, from the microphone to what a player decodes."""

import asyncio
from collections.abc import Sequence

import av
import numpy as np
import numpy.typing as npt
from marked_opus import PACKET_S, SAMPLES_PER_PACKET, encode_loop, tone_of

from tests.support.radio import RecordingTransport, decode_mp3, mp3_frames
from tests.support.virtual_time import run
from voice_streaming.listening.channels import Channels
from voice_streaming.listening.listeners import Listener
from voice_streaming.settings.model import AudioSettings
from voice_streaming.streams.relay import VoiceRelay
from voice_streaming.streams.stream import Stream, StreamState
from voice_streaming.streams.track import OpusTrack

_RATE_HZ = 44_100
_ONSET_LEVEL = 0.05
_QUIET_S = 0.5


def delays_s(audio: bytes, begun_s: float, departures_s: Sequence[float]) -> list[float]:
    """Of each tone in the MP3, whose player began at `begun_s`: from its first sample at the microphone, which is one
    packet before its departure, to that sample's moment in the player. Good for delays below a second."""
    whole = audio[audio.index(b"\xff\xfb") :]
    frames = mp3_frames(whole)
    samples = decode_mp3(frames[:-1])
    heard_s = [begun_s + position / _RATE_HZ for position in _onsets(samples)]
    delays = []
    for moment_s in heard_s:
        before = [departure_s for departure_s in departures_s if departure_s <= moment_s]
        if before:
            delays.append(moment_s - before[-1] + PACKET_S)
    return delays


def _onsets(samples: npt.NDArray[np.float32]) -> list[int]:
    loud = np.flatnonzero(np.abs(samples) > _ONSET_LEVEL)
    starts = loud[np.diff(loud, prepend=-_RATE_HZ) > _QUIET_S * _RATE_HZ]
    # One that sounded when the player began has no beginning.
    return [int(start) for start in starts if start > _QUIET_S * _RATE_HZ]


def simulated_delays_s(hours: float, sender_ppm: float) -> list[float]:
    """The delays of all tones that a listener hears in that time, which passes as fast as the work allows.

    Decoding, clock and encoding are the server's own; the sender's clock is off by so much.
    """
    return run(_simulate(hours * 3600, 1 + sender_ppm * 1e-6))


async def _simulate(duration_s: float, clock: float) -> list[float]:
    loop = asyncio.get_running_loop()
    stream = Stream("bench", "bench", OpusTrack(), "sender")
    stream.advance(StreamState.ACTIVE)
    broadcast = Channels(AudioSettings(), VoiceRelay(), {"bench": stream})
    transport = RecordingTransport()
    source = stream.track.take_source()
    packets = encode_loop()
    departures_s = []
    begun_s = loop.time()
    for number in range(round(duration_s / PACKET_S)):
        await asyncio.sleep(begun_s + number * PACKET_S / clock - loop.time())
        if number == 50:
            broadcast.join(Listener(transport, follows=True, chunked=False, icy=None), stream)
        if tone_of(number) is not None:
            departures_s.append(loop.time())
        payload = packets[number % len(packets)]
        timestamp = number * SAMPLES_PER_PACKET & 0xFFFF_FFFF
        source.publish(1, number & 0xFFFF, timestamp, False, payload, loop.time())
    first_s = transport.writes[0][0]
    broadcast.close()
    return _delays_in_pieces(transport.received, first_s, departures_s)


def _delays_in_pieces(audio: bytes, begun_s: float, departures_s: Sequence[float]) -> list[float]:
    """As `delays_s`, of an hour, ten minutes at a time: its samples at once would take a gigabyte."""
    frames = mp3_frames(audio)
    decoder = av.CodecContext.create("mp3float", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    delays = []
    departures = np.array(departures_s)
    per_piece = 23_000
    for first in range(0, len(frames), per_piece):
        piece = frames[first : first + per_piece]
        samples = np.concatenate([part.to_ndarray()[0] for frame in piece for part in decoder.decode(av.Packet(frame))])
        for onset in _onsets(samples):
            moment_s = begun_s + (first * 1152 + onset) / _RATE_HZ
            delays.append(moment_s - float(departures[departures <= moment_s][-1]) + PACKET_S)
    return delays
