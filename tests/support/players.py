"""What a real player makes of an address, as samples."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from tests.support.audio import Samples, decode_audio
from tests.support.availability import require_program
from tests.support.process import ChildProcess, child_process

PlayerName = Literal["ffmpeg", "vlc", "mpv", "curl"]
PLAYERS: tuple[PlayerName, ...] = get_args(PlayerName)


class Playback:
    """A player at work. `process.log` holds what it says."""

    def __init__(self, process: ChildProcess, recording: Path) -> None:
        self.process = process
        self._recording = recording

    async def stop(self) -> Samples:
        """Close the player as a user would, if it has not ended by itself; return all that it has played.

        AssertionError if it had given up with an error.
        """
        if self.process.exit_code is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait(timeout_s=15)
        elif self.process.exit_code != 0:
            raise AssertionError(f"gave up with {self.process.exit_code}; {self.process.log_text()}")
        return await self.played()

    async def played(self) -> Samples:
        """What it has written so far, while it plays on; players write with a delay of a second or so."""
        if not self._recording.exists():
            return decode_audio(b"")
        return await asyncio.to_thread(decode_audio, self._recording)


def _command(player: PlayerName, url: str, recording: str) -> list[str | Path]:
    match player:
        case "ffmpeg":
            return [require_program("ffmpeg"), "-nostdin", "-v", "warning", "-i", url, "-f", "wav", recording]
        case "vlc":
            # All its output options belong to the file output; it plays as fast as the stream arrives.
            output = ["--aout=afile", f"--audiofile-file={recording}", "--audiofile-format=s16"]
            manners = ["--play-and-exit", "--no-video", "--no-interact", "--no-metadata-network-access"]
            return [require_program("cvlc"), *manners, *output, url]
        case "mpv":
            output = ["--ao=pcm", f"--ao-pcm-file={recording}"]
            return [require_program("mpv"), "--no-config", "--no-video", "--msg-level=all=warn", *output, url]
        case "curl":
            return [require_program("curl"), "--silent", "--show-error", "--fail", "--output", recording, url]


@asynccontextmanager
async def playing(player: PlayerName, url: str) -> AsyncIterator[Playback]:
    """Let a player play an HTTP address into a file while the block runs."""
    with tempfile.TemporaryDirectory(prefix=f"{player}-", ignore_cleanup_errors=True) as directory:
        # VLC refuses to run as root.
        user = "nobody" if player == "vlc" and os.geteuid() == 0 else None
        os.chmod(directory, 0o777 if user else 0o700)
        recording = f"{directory}/{'recording.mp3' if player == 'curl' else 'recording.wav'}"
        environment = {**os.environ, "HOME": directory, "XDG_RUNTIME_DIR": directory}
        async with child_process(_command(player, url, recording), environment=environment, user=user) as process:
            yield Playback(process, Path(recording))


async def record(player: PlayerName, url: str, *, seconds: float) -> Samples:
    """Play an address for some time, or until it ends; return what was played."""
    async with playing(player, url) as playback:
        # A timeout is what is expected: live streams do not end.
        with suppress(TimeoutError):
            await playback.process.wait(timeout_s=seconds)
        return await playback.stop()
