"""Debian's icecast2 on a loopback port, fed by ffmpeg: what an MP3 broadcast costs a server written in C."""

import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path

import machine
from load_process import LoadError, pin
from server_process import free_port

MOUNT = "/live.mp3"
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0

# Its own defaults (64 KiB of the past for a newcomer) but for the number of clients. As root it changes its user.
_CONFIGURATION = """<icecast>
  <limits><clients>{clients}</clients><sources>2</sources></limits>
  <authentication>
    <source-password>source</source-password><admin-user>admin</admin-user><admin-password>admin</admin-password>
  </authentication>
  <hostname>127.0.0.1</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths>
    <logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""
_OWNER = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"


class Icecast:
    """A broadcast at `port` and MOUNT. The caller must `stop` it."""

    def __init__(self, core: int, source_cores: Collection[int], clients: int, bitrate_bps: int) -> None:
        server, ffmpeg = shutil.which("icecast2"), shutil.which("ffmpeg")
        if server is None or ffmpeg is None:
            raise LoadError("icecast2 and ffmpeg are needed: install them with apt-get, or leave --icecast out")
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        folder.chmod(0o777)
        self.port = free_port()
        configuration = folder / "icecast.xml"
        owner = _OWNER if os.geteuid() == 0 else ""
        configuration.write_text(_CONFIGURATION.format(clients=clients, port=self.port, folder=folder, owner=owner))
        own_cores = os.sched_getaffinity(0) if machine.LINUX else set()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            pin({core})
            self._run(server, "-c", str(configuration))
            pin(source_cores)
            self._await(f"http://127.0.0.1:{self.port}/status-json.xsl")
            tone = ["-re", "-f", "lavfi", "-i", "sine=frequency=300:sample_rate=44100"]
            sound = ["-ac", "2", "-codec:a", "libmp3lame", "-b:a", str(bitrate_bps), "-content_type", "audio/mpeg"]
            target = f"icecast://source:source@127.0.0.1:{self.port}{MOUNT}"
            self._run(ffmpeg, "-nostdin", "-v", "error", *tone, *sound, "-f", "mp3", target)
            self._await(f"http://127.0.0.1:{self.port}{MOUNT}")
        except BaseException:
            self.stop()
            raise
        finally:
            pin(own_cores)

    @property
    def cpu_s(self) -> float:
        return machine.cpu_s(self._processes[0].pid)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def _run(self, *command: str) -> None:
        quiet = subprocess.DEVNULL
        self._processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True))

    def _await(self, url: str) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                with urllib.request.urlopen(url, timeout=1):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise LoadError(f"icecast2 did not answer on {url} within {_START_TIMEOUT_S:.0f} s")
