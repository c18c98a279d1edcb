"""When files begin, go on and end: voices in virtual time, files on a real folder."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.recording.tapes import Studio, payloads, seconds
from tests.support import virtual_time
from tests.support.voices import tone_payloads
from voice_streaming.process.refusal import Refused
from voice_streaming.recording.disk import DiskTooSlow
from voice_streaming.recording.folder import UnfinishedFile
from voice_streaming.recording.live import ONSET_S
from voice_streaming.recording.model import State
from voice_streaming.recording.recorder import PROBLEM, RETRY_S


def play(work: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(work)


def test_a_voice_is_recorded_from_its_first_packet_to_its_end(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, _ = await studio.heard(5)
        assert [recording.stream for recording in studio.recorder.active()] == ["kitchen"]
        assert stream.is_recorded
        assert stream.is_consumed
        assert stream.details().recording
        (unfinished,) = studio.unfinished()
        assert unfinished.stat().st_size > 0
        await studio.end(stream)
        path = studio.only()
        assert seconds(path) == pytest.approx(5, abs=0.03)
        expected = tone_payloads(440)
        assert [payload for payload in payloads(path) if payload in expected][:250] == [
            expected[(440 + index) % len(expected)] for index in range(250)
        ]
        assert studio.news.kinds == ["started", "ended"]
        (recording,) = studio.recorder.library.recordings.values()
        assert recording == studio.news.ended[0]
        assert recording.state is State.FINISHED
        assert recording.seconds == pytest.approx(5, abs=0.03)
        assert recording.bytes == path.stat().st_size
        assert not studio.failures.problems
        await studio.recorder.close()

    play(scene())


@pytest.mark.parametrize(
    ("names", "rooms", "recorded"),
    [
        (("*",), (), True),
        (("kit*",), (), True),
        (("KITCHEN",), (), True),
        (("attic",), (), False),
        ((), (), False),
        (("office",), ("Office",), True),
        (("kids", "off?ce"), ("Office",), True),
    ],
)
def test_patterns_of_streams_and_rooms_say_what_is_recorded(
    tmp_path: Path, names: tuple[str, ...], rooms: tuple[str, ...], recorded: bool
) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, names=names)
        stream = studio.stream("Kitchen", *rooms)
        await studio.voice(stream).talk(1)
        await studio.end(stream)
        assert bool(studio.files()) is recorded
        await studio.recorder.close()

    play(scene())


def test_off_records_nothing_and_refuses(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path / "none", mode="off", pre_roll_s=5.0)
        stream, _ = await studio.heard(1)
        with pytest.raises(Refused, match="off"):
            studio.recorder.start(stream)
        await studio.end(stream)
        assert not (tmp_path / "none").exists()
        await studio.recorder.close()

    play(scene())


def test_what_is_started_by_hand_ends_by_hand_or_by_itself(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, mode="manual")
        stream, voice = await studio.heard(2)
        assert not stream.is_consumed
        first = studio.recorder.start(stream)
        with pytest.raises(Refused, match="already"):
            studio.recorder.start(stream)
        await voice.talk(3)
        assert studio.recorder.stop(first.id).id == first.id
        with pytest.raises(Refused, match="not being recorded"):
            studio.recorder.stop(first.id)
        await voice.talk(1)
        assert not stream.is_consumed
        assert not stream.is_recorded
        second = studio.recorder.start(stream, seconds=2.0)
        await voice.talk(5)
        await studio.settled()
        lengths = [studio.recorder.library.recordings[found.id].seconds for found in (first, second)]
        assert lengths == [pytest.approx(3, abs=0.05), pytest.approx(2, abs=0.6)]
        await studio.end(stream)
        assert len(studio.files()) == 2
        with pytest.raises(Refused, match="not live"):
            studio.recorder.start(stream)
        await studio.recorder.close()

    play(scene())


def test_a_recording_begins_before_it_was_asked_for(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, mode="manual", pre_roll_s=10.0)
        stream, voice = await studio.heard(30)
        assert not stream.is_consumed
        studio.recorder.start(stream)
        await voice.talk(2)
        await studio.end(stream)
        assert seconds(studio.only()) == pytest.approx(12, abs=0.05)
        assert len([payload for payload in payloads(studio.only()) if payload in tone_payloads(440)]) >= 599
        await studio.recorder.close()

    play(scene())


def test_each_utterance_has_a_file_and_none_has_silence_at_its_begin(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, split_on_silence_s=3.0)
        stream = studio.stream()
        voice = studio.voice(stream)
        for _ in range(3):
            await voice.talk(2)
            await asyncio.sleep(60)
            await studio.settled()
        assert stream.is_recorded
        await studio.end(stream)
        assert [seconds(path) for path in studio.files()] == [pytest.approx(5, abs=0.6 + ONSET_S)] * 3
        assert all(payloads(path)[0] in tone_payloads(440) for path in studio.files())
        await studio.recorder.close()

    play(scene())


def test_a_long_recording_goes_on_in_another_file_without_a_gap(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, segment_minutes=1.0)
        stream, _ = await studio.heard(150)
        await studio.end(stream)
        assert len(studio.files()) == 3
        assert sum(map(seconds, studio.files())) == pytest.approx(150, abs=0.1)
        voiced = [payload for path in studio.files() for payload in payloads(path) if payload in tone_payloads(440)]
        assert len(voiced) == 7500
        await studio.recorder.close()

    play(scene())


def test_one_file_goes_on_when_its_sender_comes_back_and_a_longer_absence_begins_another(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, _ = await studio.heard(3)
        studio.streams.pause(stream, "sender lost")
        await asyncio.sleep(5)
        studio.streams.resume(stream)
        # Another connection: other numbers.
        await studio.voice(stream, 880).talk(3)
        studio.streams.pause(stream, "sender lost")
        await asyncio.sleep(15)
        await studio.settled()
        assert seconds(studio.only()) == pytest.approx(21, abs=0.1)
        again = studio.stream()
        await studio.voice(again).talk(1)
        await studio.end(again)
        assert len(studio.files()) == 2
        await studio.recorder.close()

    play(scene())


def test_twenty_voices_at_once_are_twenty_files(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        streams = [studio.stream(f"voice {number}") for number in range(20)]
        await asyncio.gather(*(studio.voice(stream).talk(2) for stream in streams))
        for stream in streams:
            await studio.end(stream)
        assert len(studio.files()) == 20
        assert [seconds(path) for path in studio.files()] == [pytest.approx(2, abs=0.03)] * 20
        await studio.recorder.close()

    play(scene())


def test_a_folder_that_vanishes_ends_the_recording_alone_and_another_file_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path / "usb")
        stream, voice = await studio.heard(3)
        for path in (tmp_path / "usb").iterdir():
            path.unlink()
        (tmp_path / "usb").rmdir()
        (tmp_path / "usb").write_text("a file in its place")
        await voice.talk(2)
        assert studio.news.kinds == ["started", "failed"]
        assert PROBLEM in studio.failures.problems
        assert not stream.is_recorded
        assert stream.is_live
        # It is tried again, and fails again, without another line.
        await voice.talk(2 * RETRY_S)
        assert studio.news.kinds.count("failed") >= 2
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
        (tmp_path / "usb").unlink()
        await voice.talk(2 * RETRY_S)
        assert stream.is_recorded
        assert not studio.failures.problems
        await studio.end(stream)
        assert seconds(studio.only()) > RETRY_S / 2
        await studio.recorder.close()

    play(scene())


def test_a_disk_that_takes_nothing_ends_the_recording_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, voice = await studio.heard(3)
        studio.disk.is_stuck = True
        await voice.talk(1)
        assert studio.news.reasons == ["the disk is too slow"]
        assert studio.failures.problems[PROBLEM] == "the disk is too slow"
        assert studio.recorder.active() == []
        assert stream.is_live
        studio.disk.is_stuck = False
        await voice.talk(RETRY_S + 2)
        assert len(studio.recorder.active()) == 1
        assert PROBLEM not in studio.failures.problems
        await studio.end(stream)
        await studio.recorder.close()

    play(scene())


def test_a_disk_without_room_stops_recordings_until_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"bytes": 10**9}
    monkeypatch.setattr("voice_streaming.recording.folder.free_bytes", lambda folder: free["bytes"])

    async def scene() -> None:
        studio = Studio(tmp_path, min_free_bytes=10**6)
        running = asyncio.ensure_future(studio.recorder.run())
        stream, voice = await studio.heard(40)
        free["bytes"] = 0
        await voice.talk(60)
        assert studio.recorder.active() == []
        assert "min_free_bytes" in studio.failures.problems[PROBLEM]
        # What was saved of it goes as well, as the oldest there is.
        assert studio.news.kinds == ["started", "failed", "deleted"]
        assert stream.is_live
        free["bytes"] = 10**9
        await voice.talk(60)
        assert len(studio.recorder.active()) == 1
        assert not studio.failures.problems
        await studio.end(stream)
        running.cancel()
        await studio.recorder.close()

    play(scene())


def test_what_a_failure_cut_short_is_listed(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, voice = await studio.heard(3)
        studio.disk.is_stuck = True
        await voice.talk(0.6)
        studio.disk.is_stuck = False
        await studio.end(stream)
        await studio.recorder.close()
        later = Studio(tmp_path)
        running = asyncio.ensure_future(later.recorder.run())
        await later.settled()
        (found,) = later.recorder.library.recordings.values()
        assert found.seconds == pytest.approx(3, abs=0.6)
        running.cancel()
        await later.recorder.close()

    play(scene())


def test_the_end_of_the_server_ends_the_files(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        await studio.heard(3)
        await studio.recorder.close()
        assert seconds(studio.only()) == pytest.approx(3, abs=0.03)

    play(scene())


def test_a_recording_is_removed_when_it_is_over_and_not_before(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, _ = await studio.heard(3)
        (recording,) = studio.recorder.active()
        with pytest.raises(Refused, match="stop that first"):
            await studio.recorder.remove(recording.id)
        await studio.end(stream)
        await studio.recorder.remove(recording.id)
        assert not studio.files()
        assert studio.news.kinds == ["started", "ended", "deleted"]
        with pytest.raises(Refused, match="no such"):
            await studio.recorder.remove(recording.id)
        await studio.recorder.close()

    play(scene())


def test_what_the_disk_does_not_remove_is_listed_as_before(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path)
        stream, _ = await studio.heard(1)
        await studio.end(stream)
        (recording,) = studio.recorder.library.recordings.values()
        studio.disk.is_stuck = True
        with pytest.raises(DiskTooSlow):
            await studio.recorder.remove(recording.id)
        assert studio.recorder.find(recording.id) == recording
        assert studio.news.kinds == ["started", "ended"]
        studio.disk.is_stuck = False
        await studio.recorder.close()

    play(scene())


def test_what_goes_for_its_size_is_told_as_well(tmp_path: Path) -> None:
    async def scene() -> None:
        studio = Studio(tmp_path, max_total_bytes=1)
        stream, _ = await studio.heard(1)
        await studio.end(stream)
        cleaning = asyncio.create_task(studio.recorder.run())
        await studio.settled()
        assert studio.news.kinds == ["started", "ended", "deleted"]
        assert not studio.recorder.library.recordings
        cleaning.cancel()
        await studio.recorder.close()

    play(scene())


def test_a_file_that_cannot_be_closed_does_not_hide_that_the_next_one_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, refused = UnfinishedFile.finish, [OSError("no more room")]

    def finish(file: UnfinishedFile) -> int:
        if refused:
            raise refused.pop()
        return close(file)

    monkeypatch.setattr(UnfinishedFile, "finish", finish)

    async def scene() -> None:
        studio = Studio(tmp_path, segment_minutes=0.1)
        stream, _ = await studio.heard(8)
        assert studio.news.kinds == ["started", "started", "failed"]
        assert len(studio.recorder.active()) == 1
        assert stream.is_recorded
        await studio.end(stream)
        await studio.recorder.close()

    play(scene())
