"""Reading recordings, and repairing those that were cut off at any byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.ogg import payloads_of, read_ogg_opus, ticks_of
from voice_streaming.media.ogg import RECORDING_PRE_SKIP, OggFormat, OggOpusWriter
from voice_streaming.recording.model import State
from voice_streaming.recording.ogg_file import NotARecording, read, repair

VOICE = b"\x48" + bytes(range(60))
"""SILK, 20 ms."""
TAGS = {"ARTIST": "Küche", "DATE": "2026-11-25T14:03:22Z", "STREAM": "küche", "ROOMS": '["Office","Kids"]'}


def recorded(count: int = 100, tags: dict[str, str] | None = None, *, ended: bool = True) -> bytes:
    writer = OggOpusWriter(OggFormat(7, RECORDING_PRE_SKIP), tags=TAGS if tags is None else tags)
    parts = [writer.headers]
    for index in range(count):
        writer.add(VOICE, 960)
        if index % 10 == 9:
            parts.append(writer.pages())
    return b"".join([*parts, writer.finish()] if ended else parts)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "2026-11-25T14-03-22Z küche.opus"
    path.write_bytes(recorded())
    found = read(path)
    assert (found.stream, found.talker, found.rooms) == ("küche", "Küche", ["Office", "Kids"])
    assert found.started_at == "2026-11-25T14:03:22Z"
    assert found.seconds == pytest.approx(2, abs=0.01)
    assert found.bytes == path.stat().st_size
    assert found.state is State.FINISHED


@pytest.mark.parametrize(
    "tags", [{}, {"DATE": "yesterday", "ROOMS": "{"}, {"DATE": "9999-99-99", "ROOMS": "[1]"}, {"STREAM": ""}]
)
def test_without_good_tags_the_name_of_the_file_counts(tmp_path: Path, tags: dict[str, str]) -> None:
    path = tmp_path / "2026-11-25T14-03-22Z attic.opus"
    path.write_bytes(recorded(tags=tags))
    found = read(path)
    assert (found.stream, found.talker, found.rooms) == ("attic", "attic", [])
    assert found.started_at.endswith("Z")


@pytest.mark.parametrize("content", [b"", b"OggS", b"ID3" * 100, recorded()[:200], recorded()[:-1], bytes(70_000)])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.opus"
    path.write_bytes(content)
    with pytest.raises(NotARecording):
        read(path)


def test_a_file_that_was_cut_off_anywhere_is_good_up_to_its_last_whole_page(tmp_path: Path) -> None:
    whole = recorded(ended=False)
    random_bytes = random.Random(5)
    for _ in range(150):
        cut = random_bytes.randrange(len(whole) + 1)
        path = tmp_path / "2026-11-25T14-03-22Z kitchen.opus.part"
        path.write_bytes(whole[:cut])
        kept = read_ogg_opus(whole, cut=True) if cut == len(whole) else None
        finished = repair(path)
        assert not path.exists()
        if finished is None:
            assert not list(tmp_path.iterdir())
            continue
        pages = read_ogg_opus(finished.read_bytes())
        assert pages[-1].flags == 4
        assert all(payload == VOICE for payload in payloads_of(pages))
        assert kept is None or len(pages) == len(kept)
        # What is lost is less than a page.
        assert cut - finished.stat().st_size < 27 + 10 + 10 * len(VOICE)
        assert sum(map(ticks_of, payloads_of(pages))) == pages[-1].position
        finished.unlink()


def test_a_page_that_is_damaged_ends_the_file(tmp_path: Path) -> None:
    whole = bytearray(recorded(ended=False))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "a.opus.part"
    path.write_bytes(whole)
    finished = repair(path)
    assert finished is not None
    assert 0 < len(read_ogg_opus(finished.read_bytes())) < 10
