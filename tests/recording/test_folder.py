"""What the folder holds, and what is removed from it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.recording.test_ogg_file import recorded
from voice_streaming.recording import folder as files
from voice_streaming.recording.folder import PEAKS_ENDING, UnfinishedFile, load, remove_excess
from voice_streaming.settings.model import RecordingSettings

DAY_S = 86_400


def settings(**changed: Any) -> RecordingSettings:
    return RecordingSettings(**{"max_age_days": 0, "max_total_bytes": 0, "min_free_bytes": 0, **changed})


def shelf(folder: Path, count: int) -> list[str]:
    """So many files, the oldest first."""
    names = [f"2026-11-{day:02}T10-00-00Z kitchen.opus" for day in range(1, count + 1)]
    for age, name in enumerate(reversed(names)):
        (folder / name).write_bytes(recorded(10))
        (folder / (name + PEAKS_ENDING)).write_text("{}")
        os.utime(folder / name, (time.time() - age * DAY_S - 60,) * 2)
    return names


def left(folder: Path) -> list[str]:
    found = sorted(path.name for path in folder.iterdir())
    names = [name for name in found if name.endswith(".opus")]
    # What is kept beside a file goes with it.
    assert [name for name in found if name.endswith(PEAKS_ENDING)] == [name + PEAKS_ENDING for name in names]
    return names


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == []


def test_the_folder_is_read_and_what_was_left_unfinished_is_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = shelf(tmp_path, 2)
    (tmp_path / "2026-11-09T10-00-00Z attic.opus.part").write_bytes(recorded(50, ended=False)[:-7])
    (tmp_path / "2026-11-09T10-00-01Z empty.opus.part").write_bytes(b"Ogg")
    (tmp_path / "2026-11-09T10-00-02Z busy.opus.part").write_bytes(recorded(50, ended=False))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "broken.opus").write_bytes(b"no sound")
    with caplog.at_level("INFO"):
        found = load(tmp_path, ["2026-11-09T10-00-02Z busy.opus.part"])
    assert sorted(recording.file for recording in found) == [*names, "2026-11-09T10-00-00Z attic.opus"]
    assert (tmp_path / "2026-11-09T10-00-02Z busy.opus.part").exists()
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "broken.opus").exists()
    assert len(caplog.records) == 3


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    names = shelf(tmp_path, 5)
    removed, is_free = remove_excess(tmp_path, settings(max_age_days=2.5), (), time.time())
    assert removed == names[:2]
    assert left(tmp_path) == names[2:]
    assert is_free


def test_the_oldest_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    names = shelf(tmp_path, 5)
    size = (tmp_path / names[0]).stat().st_size
    remove_excess(tmp_path, settings(max_total_bytes=3 * size), (), time.time())
    assert left(tmp_path) == names[2:]


def test_what_is_being_played_stays(tmp_path: Path) -> None:
    names = shelf(tmp_path, 4)
    remove_excess(tmp_path, settings(max_total_bytes=1), {names[1]}, time.time())
    assert left(tmp_path) == [names[1]]


def test_files_go_until_enough_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = shelf(tmp_path, 4)
    # A disk of 400 bytes, of which each file takes a hundred.
    monkeypatch.setattr(files, "free_bytes", lambda folder: 400 - 100 * len(list(folder.glob("*.opus"))))
    assert remove_excess(tmp_path, settings(min_free_bytes=250), (), time.time()) == (names[:3], True)
    assert left(tmp_path) == names[3:]
    assert remove_excess(tmp_path, settings(min_free_bytes=500), (), time.time()) == (names[3:], False)


def test_foreign_files_and_links_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(bytes(1000))
    target = tmp_path / "target"
    target.write_bytes(bytes(1000))
    (tmp_path / "2026-11-01T10-00-00Z link.opus").symlink_to(target)
    remove_excess(tmp_path, settings(max_total_bytes=1), (), time.time())
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_has_its_name_when_it_is_finished(tmp_path: Path) -> None:
    file = UnfinishedFile(tmp_path / "new" / "folder", "a.opus")
    file.open()
    file.write(recorded())
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.opus.part"]
    assert file.finish() == len(recorded())
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.opus"]
    with pytest.raises(FileExistsError):
        UnfinishedFile(tmp_path / "new" / "folder", "a.opus").open()


def test_a_file_that_was_removed_while_it_is_written_is_noticed(tmp_path: Path) -> None:
    file = UnfinishedFile(tmp_path, "a.opus")
    file.open()
    file.write(recorded())
    (tmp_path / "a.opus.part").unlink()
    with pytest.raises(FileNotFoundError):
        file.write(b"more")
    assert file.rescue() is None


def test_what_was_written_before_a_failure_is_kept(tmp_path: Path) -> None:
    file = UnfinishedFile(tmp_path, "a.opus")
    file.open()
    file.write(recorded(50, ended=False))
    assert file.rescue() == "a.opus"
    assert load(tmp_path)[0].seconds == pytest.approx(1, abs=0.01)
