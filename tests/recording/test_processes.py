"""Recordings on real disks, and in processes that are killed."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.recording.tapes import seconds
from tests.support.availability import require_program, unavailable
from tests.support.server import REPOSITORY, running_server
from tests.support.signalling import signalling
from tests.support.stage import until
from tests.support.talking import talking
from tests.support.voices import Voice
from voice_streaming.recording.folder import UnfinishedFile, load
from voice_streaming.recording.recorder import Recorder
from voice_streaming.settings.model import RecordingSettings
from voice_streaming.streams.registry import Streams
from voice_streaming.streams.relay import VoiceRelay

pytestmark = pytest.mark.slow


def found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def ffprobe_s(path: Path) -> float:
    ffprobe = str(require_program("ffprobe"))
    command = [ffprobe, "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.any_python
def test_after_fifty_kills_all_that_was_written_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.recording.killed_writers", str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout.splitlines()
    assert len(told) == 50
    for line in told:
        number, ticks = map(int, line.split())
        (recording,) = load(tmp_path / str(number))
        assert recording.seconds >= ticks / 48_000 - 0.01
        assert not list((tmp_path / str(number)).glob("*.part"))
        if number % 10 == 0:
            assert ffprobe_s(tmp_path / str(number) / recording.file) == pytest.approx(recording.seconds, abs=0.02)


@pytest.mark.any_python
async def test_a_server_that_was_killed_repairs_its_recording_at_the_next_start(
    tmp_path: Path, payloads: list[bytes]
) -> None:
    config = {"recording": {"mode": "always", "folder": str(tmp_path), "open": True, "min_free_bytes": 0}}
    async with (
        running_server(config, expected_exit_code=-9) as server,
        talking(server.ws_url, "kitchen", payloads),
    ):
        loop = asyncio.get_running_loop()
        await until(lambda: bool(found(tmp_path, "*.part")), "a recording")
        begun_s = loop.time()
        # Two seconds of speech, as they are on the disk.
        await until(lambda: found(tmp_path, "*.part")[0].stat().st_size > 8000, "speech in it")
        await server.process.kill()
        killed_s = loop.time()
    (unfinished,) = found(tmp_path, "*.part")
    async with running_server(config) as server:
        await until(lambda: bool(found(tmp_path, "*.opus")), "the repaired recording")
    (path,) = found(tmp_path, "*.opus")
    assert unfinished.name == path.name + ".part"
    assert killed_s - begun_s - 1.1 < ffprobe_s(path) < killed_s - begun_s + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """1 MB."""
    if os.geteuid() != 0:
        unavailable("only root may mount a tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_disk_that_is_full_stops_the_recording_and_not_the_voice(
    small_disk: Path, payloads: list[bytes]
) -> None:
    (small_disk / "other").write_bytes(bytes(1_020_000))
    config = {"recording": {"mode": "always", "folder": str(small_disk), "min_free_bytes": 0}}
    async with (
        running_server(config) as server,
        signalling(server.ws_url) as watcher,
        talking(server.ws_url, "kitchen", payloads),
    ):
        await watcher.send("subscribe_events", kinds=["recording_failed", "ended"])
        event = await watcher.expect("event", timeout_s=30)
        assert event["kind"] == "recording_failed"
        assert re.search("No space left", event["reason"])
        async with aiohttp.ClientSession() as http, http.get(server.url("/health")) as answer:
            health = await answer.json()
        assert health["status"] == "degraded"
        assert "No space left" in health["problems"]["recording"]
        assert health["active_streams"] == 1
        assert server.process.log_text().count("Recording fails") == 1


async def test_a_disk_that_blocks_for_five_seconds_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake, as no file system here blocks at will: the first write takes five seconds."""
    write = UnfinishedFile.write
    held: list[float] = []

    def slow(self: UnfinishedFile, data: bytes) -> None:
        if not held:
            held.append(time.monotonic())
            time.sleep(5)
        write(self, data)

    monkeypatch.setattr(UnfinishedFile, "write", slow)
    relay = VoiceRelay()
    streams = Streams(relay, resume_grace_s=10)
    recorder = Recorder(RecordingSettings(mode="always", min_free_bytes=0), tmp_path, relay)
    streams.observe(recorder)
    stream = streams.create("kitchen", "Kitchen", "sender")
    loop = asyncio.get_running_loop()
    latest, longest_s = loop.time(), 0.0
    talking = asyncio.ensure_future(Voice(440, stream.track).talk(7))
    while not talking.done():
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, loop.time() - latest)
        latest = loop.time()
    assert held
    assert longest_s < 1
    streams.end(stream, "sender left")
    await recorder.close()
    (path,) = found(tmp_path, "*.opus")
    assert seconds(path) == pytest.approx(7, abs=0.1)
