"""The least that the fan-out can cost: floor.c, built here, and measured by turns with the server. See README.md."""

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import machine
from command import Cores
from fleet import Fleet, Measurement
from load_process import LoadError
from marked_opus import encode_loop
from pylibsrtp import _binding
from rounds import Figures, in_short

_SOURCE = Path(__file__).with_name("floor.c")
_ANSWER_GRACE_S = 20.0
_SETTLE_S = 2.0
# Until packets that the sender has sent have left the server, and until it forwards again.
_TURN_S = 0.5
# Well below the server's webrtc.media_timeout_s, after which a silent sender is given up.
_MOST_WINDOW_S = 6.0

MANY_STREAMS = 20
RECEIVERS_PER_STREAM = 20


@dataclass(frozen=True)
class FloorReading:
    """CPU of one window in microseconds per datagram; `untaken` are datagrams that the socket refused."""

    datagrams: int
    untaken: int
    protect_us: float
    send_us: float

    @property
    def total_us(self) -> float:
        return self.protect_us + self.send_us


class FloorProcess:
    """floor.c at work, pinned to the server's core. `library` says which libsrtp it calls."""

    def __init__(self, program: Path, cores: Cores, streams: int, each: int, payload_bytes: int) -> None:
        """Raises LoadError where it does not start."""
        # The very code that the server protects with, not the distribution's, which may have other cryptography.
        binding = str(_binding.__file__)
        numbers = (streams, each, payload_bytes, cores.server, min(cores.clients))
        self._process = subprocess.Popen(
            [str(program), binding, *map(str, numbers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.library = self._answer().removeprefix("ready ")
        except LoadError:
            self.stop()
            raise

    def measure(self, seconds: float) -> FloorReading:
        """Sends for that long. Raises LoadError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{round(seconds * 1000)}\n")
        self._process.stdin.flush()
        sent, untaken, protect_ns, send_ns = map(int, self._answer().split())
        if not sent:
            raise LoadError("the floor sent nothing")
        return FloorReading(sent, untaken, protect_ns / 1e3 / (sent + untaken), send_ns / 1e3 / (sent + untaken))

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_ANSWER_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise LoadError(f"the floor ended with code {self._process.wait(_ANSWER_GRACE_S)}")
        return line


@contextlib.contextmanager
def built_floor() -> Iterator[Path]:
    """The program, for as long as the block runs. Raises LoadError, which says what is missing."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not machine.LINUX or compiler is None:
        raise LoadError("--floor needs Linux and a C compiler")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        # -rdynamic: the extension module finds the one variable of Python's that it wants.
        command = [compiler, "-O2", "-std=gnu11", "-Wall", "-rdynamic", str(_SOURCE), "-o", str(program), "-ldl"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise LoadError(f"--floor needs libsrtp's headers (Debian: libsrtp2-dev):\n{built.stderr.strip()}")
        yield program


class FloorComparison:
    """The server and the floor by turns, on the same core, with the same numbers of packets and receivers."""

    def __init__(self, script: str, cores: Cores, say: Callable[[str], None]) -> None:
        self.figures: Figures = {}
        self.doubts: list[str] = []
        self.srtp_profile = ""
        self.library = ""
        self._script = script
        self._cores = cores
        self._say = say
        self._payload_bytes = len(encode_loop()[0])

    def run(self, receivers: int, seconds: float, turns: int) -> None:
        """Each shape: one stream, then many streams, `turns` windows of the server and as many of the floor."""
        with built_floor() as program:
            self._compare(program, "", 1, receivers, seconds, turns)
            self._compare(program, "many_", MANY_STREAMS, RECEIVERS_PER_STREAM, seconds, turns)
        self.figures["many_to_one"] = self.figures["many_cpu_us"] / self.figures["cpu_us"]

    def _compare(self, program: Path, prefix: str, streams: int, each: int, seconds: float, turns: int) -> None:
        what = f"{streams} x {each}"
        server: list[Measurement] = []
        floor: list[FloorReading] = []
        with contextlib.ExitStack() as started:
            fleet = started.enter_context(Fleet.running(self._script, self._cores))
            fleet.start_streams(streams)
            failures = fleet.join(streams * each).failures
            self.doubts += [f"{what}: a receiver could not join: {failure}" for failure in failures[:1]]
            process = FloorProcess(program, self._cores, streams, each, self._payload_bytes)
            started.callback(process.stop)
            self.library = process.library
            time.sleep(_SETTLE_S)
            for _ in range(turns):
                server.append(self._server_window(fleet, what, seconds))
                floor.append(self._floor_window(fleet, process, what, min(seconds, _MOST_WINDOW_S)))
        self.srtp_profile = server[0].srtp_profile
        self.figures |= {
            f"{prefix}receivers": streams * each,
            f"{prefix}cpu_us": _mean([(seen.cpu_us_per_packet, seen.received) for seen in server]),
            f"{prefix}lost": sum(seen.lost for seen in server),
            f"{prefix}floor_us": _mean([(reading.total_us, reading.datagrams) for reading in floor]),
            f"{prefix}floor_protect_us": _mean([(reading.protect_us, reading.datagrams) for reading in floor]),
            f"{prefix}floor_send_us": _mean([(reading.send_us, reading.datagrams) for reading in floor]),
        }
        self.figures[f"{prefix}floor_ratio"] = self.figures[f"{prefix}cpu_us"] / self.figures[f"{prefix}floor_us"]

    def _server_window(self, fleet: Fleet, what: str, seconds: float) -> Measurement:
        with fleet.window() as window:
            time.sleep(seconds)
        seen = window.measurement
        self._say(f"{what}: server: {in_short(seen)}")
        self.doubts += [f"{what}: {doubt}" for doubt in seen.doubts()]
        return seen

    def _floor_window(self, fleet: Fleet, process: FloorProcess, what: str, seconds: float) -> FloorReading:
        fleet.silence(True)
        try:
            time.sleep(_TURN_S)
            reading = process.measure(seconds)
        finally:
            fleet.silence(False)
        time.sleep(_TURN_S)
        self._say(
            f"{what}: floor: {reading.total_us:.2f} us a packet, "
            f"of them {reading.protect_us:.2f} to copy and protect, {reading.send_us:.2f} to send"
        )
        if reading.untaken:
            self.doubts.append(f"{what}: the kernel refused {reading.untaken} of the floor's packets")
        return reading


def _mean(weighted: list[tuple[float, int]]) -> float:
    """The weighted mean of pairs of a value and its weight; NaN where nothing has any weight."""
    known = [(value, weight) for value, weight in weighted if weight]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else math.nan
