"""A PulseAudio server of a test's own: a microphone that plays a WAV file in a loop, and loudspeakers for nobody."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.availability import require_program
from tests.support.process import child_process

# norewinds: such a sink works in blocks of 50 ms; else of up to 2 s, and Firefox starts that much later.
_DEVICES = (
    "--load=module-null-sink sink_name=loudspeakers rate=48000 norewinds=1",
    "--load=module-null-sink sink_name=mouth rate=48000 channels=1 norewinds=1",
    # Browsers do not offer a sink's monitor as a microphone, so it gets the looks of one.
    "--load=module-remap-source source_name=microphone master=mouth.monitor",
)


@asynccontextmanager
async def sound_server(microphone: Path) -> AsyncIterator[dict[str, str]]:
    """Run it while the block runs; yields the environment that makes a program use it.

    It listens on a socket in a directory of its own, reads no configuration, and touches no sound server of the user.
    """
    pulseaudio, ffmpeg = require_program("pulseaudio"), require_program("ffmpeg")
    with tempfile.TemporaryDirectory(prefix="sound-", ignore_cleanup_errors=True) as directory:
        # libpulse keeps a cookie in the home, and the server its files in the runtime directory.
        environment = {**os.environ, "HOME": directory, "XDG_RUNTIME_DIR": directory, "PULSE_RUNTIME_PATH": directory}
        environment.pop("PULSE_SERVER", None)
        socket = f"{directory}/socket"
        modules = [f"--load=module-native-protocol-unix auth-anonymous=1 socket={socket}", *_DEVICES]
        options = ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "-v"]
        async with child_process([pulseaudio, *options, *modules], environment=environment) as server:
            await server.wait_for_log("Daemon startup complete")
            environment["PULSE_SERVER"] = f"unix:{socket}"
            speak: list[str | Path] = [ffmpeg, "-v", "error", "-stream_loop", "-1", "-i", microphone]
            async with child_process([*speak, "-f", "pulse", "-device", "mouth", "test"], environment=environment):
                yield environment
