"""The MP3 and the waveform of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.audio import Samples, decode_audio, encode_opus
from tests.support.matching import match
from voice_streaming.media.ogg import RECORDING_PRE_SKIP, OggFormat, OggOpusWriter
from voice_streaming.recording import conversion
from voice_streaming.recording.ogg_file import NotARecording


@pytest.fixture
def path(tmp_path: Path, speech: Samples) -> Path:
    writer = OggOpusWriter(OggFormat(7, RECORDING_PRE_SKIP))
    parts = [writer.headers]
    for payload in encode_opus(speech):
        writer.add(payload, 960)
        parts.append(writer.pages())
    path = tmp_path / "a.opus"
    path.write_bytes(b"".join([*parts, writer.finish()]))
    return path


def test_the_mp3_is_the_same_speech(path: Path, speech: Samples) -> None:
    heard = decode_audio(b"".join(conversion.mp3(path, 128_000, 44_100)))
    assert len(heard) == pytest.approx(len(speech), abs=0.2 * 48_000)
    assert match(speech, heard).score > 0.9


def test_peaks_show_where_it_is_loud(path: Path, speech: Samples) -> None:
    found = conversion.peaks(path)
    assert found.seconds == pytest.approx(len(speech) / 48_000, abs=0.1)
    assert len(found.peaks) == conversion.MOST_PEAKS
    parts = np.array_split(np.abs(speech), conversion.MOST_PEAKS)
    loud = [100 * part.max() for part in parts]
    assert np.corrcoef(found.peaks, loud)[0, 1] > 0.8
    assert max(found.peaks) <= 100


def test_peaks_are_worked_out_once(path: Path) -> None:
    first = conversion.peaks(path)
    path.unlink()
    assert conversion.peaks(path) == first


def test_peaks_that_are_kept_and_damaged_are_worked_out_again(path: Path) -> None:
    first = conversion.peaks(path)
    (path.parent / "a.opus.peaks").write_bytes(b'{"peaks": "no"}')
    assert conversion.peaks(path) == first


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    path.write_bytes(b"no sound at all")
    with pytest.raises(NotARecording):
        conversion.peaks(path)
    with pytest.raises(NotARecording):
        list(conversion.mp3(path, 128_000, 44_100))
