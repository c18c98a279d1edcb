"""How far behind live real players are, on the MP3 and on the Ogg at the same time. See benchmarks/README.md.

    python benchmarks/player_delay.py                      mpv, VLC, ffplay, Chromium and Firefox: about five minutes
    python benchmarks/player_delay.py --players mpv vlc    only these

A stream has a tone each second, whose pitch tells which second it is. What programs play is taken from PulseAudio (a
server of our own with null sinks), what browsers play from an analyser behind their `<audio>`. It measures and prints;
it never judges. Everything runs on 127.0.0.1.
"""

import argparse
import asyncio
import datetime
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import machine
import numpy as np
import numpy.typing as npt

from tests.support.audio import encode_opus, write_wav
from tests.support.browsers import BrowserName, browser_page
from tests.support.live_radio import Radio, radio_with
from tests.support.process import child_process

_RATE_HZ = 48_000
_SECONDS = 24
"""Delays below that can be told."""
_TONE_S = 0.06
_LEVEL = 0.05
_PLAYERS = ("mpv", "vlc", "ffplay", "chromium", "firefox")
_FORMATS = ("mp3", "ogg")


def pitch_hz(second: int) -> int:
    return 400 + 110 * (second % _SECONDS)


def loop_payloads(bitrate_bps: int) -> list[bytes]:
    """Opus packets of 20 ms: a tone at the begin of each second, and noise 50 dB below it."""
    samples = np.random.default_rng(1).normal(0, 0.001, _SECONDS * _RATE_HZ)
    tone_s = np.arange(round(_TONE_S * _RATE_HZ)) / _RATE_HZ
    for second in range(_SECONDS):
        first = second * _RATE_HZ
        samples[first : first + tone_s.size] += 0.4 * np.sin(2 * np.pi * pitch_hz(second) * tone_s)
    return encode_opus(samples.astype(np.float32), bitrate_bps=bitrate_bps)[: _SECONDS * 50]


@dataclass
class Heard:
    """Tones: when each was heard (monotonic seconds), and its pitch."""

    tones: list[tuple[float, float]] = field(default_factory=list)

    def behind_s(self, begun_s: float) -> list[float]:
        """Of each, how long before it was at the microphone: at the begin of its packet, 20 ms before that is sent."""
        delays = []
        for at_s, heard_hz in self.tones:
            second = round((heard_hz - 400) / 110)
            if 0 <= second < _SECONDS and abs(heard_hz - pitch_hz(second)) < 45:
                delays.append((at_s - begun_s + 0.02 - second) % _SECONDS)
        return delays


class Monitor:
    """Takes what a sink plays, sample by sample."""

    def __init__(self) -> None:
        self.heard = Heard()
        self._rest = b""
        self._quiet_until_s = 0.0
        self._tone: tuple[float, list[npt.NDArray[np.float32]]] | None = None

    def take(self, data: bytes, now_s: float) -> None:
        """Samples of which the last was played now."""
        data = self._rest + data
        whole = len(data) // 4 * 4
        samples, self._rest = np.frombuffer(data[:whole], np.float32), data[whole:]
        if self._tone is not None:
            self._collect(samples)
            return
        loud = np.flatnonzero(np.abs(samples) > _LEVEL)
        if loud.size and now_s > self._quiet_until_s:
            self._quiet_until_s = now_s + 0.5
            self._tone = now_s - (samples.size - int(loud[0])) / _RATE_HZ, []
            self._collect(samples[loud[0] :])

    def _collect(self, samples: npt.NDArray[np.float32]) -> None:
        assert self._tone is not None
        begun_s, pieces = self._tone
        pieces.append(samples)
        if sum(piece.size for piece in pieces) >= 2400:
            tone = np.concatenate(pieces)[:2400] * np.hanning(2400)
            spectrum = np.abs(np.fft.rfft(tone, 16_384))
            self.heard.tones.append((begun_s, float(np.argmax(spectrum)) * _RATE_HZ / 16_384))
            self._tone = None


@asynccontextmanager
async def sound_server(folder: str) -> AsyncIterator[dict[str, str]]:
    """PulseAudio with a null sink for each format. Gives the environment for its clients.

    Without `norewinds`, a null sink has rendered up to two seconds of silence ahead when a player begins.
    """
    os.chmod(folder, 0o777)
    address = f"{folder}/native"
    modules = [f"module-native-protocol-unix auth-anonymous=1 socket={address}"]
    modules += [f"module-null-sink sink_name={name} rate={_RATE_HZ} channels=2 norewinds=1" for name in _FORMATS]
    loaded = [part for module in modules for part in ("-L", module)]
    environment = {**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder, "PULSE_SERVER": f"unix:{address}"}
    command: list[str | Path] = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    async with child_process([*command, *loaded], environment=environment):
        async with asyncio.timeout(20):
            while not Path(address).exists():  # noqa: ASYNC110, ASYNC240 - it tells nobody
                await asyncio.sleep(0.05)
        yield environment


async def monitored(sink: str, environment: dict[str, str], seconds: float) -> Heard:
    """What a sink plays in that time."""
    shape = ["--format=float32le", f"--rate={_RATE_HZ}", "--channels=1", "--latency-msec=10", "--raw"]
    recorder = await asyncio.create_subprocess_exec(
        "parec", *shape, f"--device={sink}.monitor", env=environment, stdout=asyncio.subprocess.PIPE
    )
    monitor = Monitor()
    end_s = time.monotonic() + seconds
    assert recorder.stdout is not None
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            data = await asyncio.wait_for(recorder.stdout.read(65_536), left_s + 5)
            monitor.take(data, time.monotonic())
    finally:
        recorder.kill()
        await recorder.wait()
    return monitor.heard


def _command(player: str, url: str) -> list[str | Path]:
    match player:
        case "mpv":
            return ["mpv", "--no-config", "--no-video", "--ao=pulse", "--msg-level=all=warn", url]
        case "vlc":
            return ["cvlc", "--no-video", "--no-interact", "--aout=pulse", "--no-metadata-network-access", url]
        case _:
            return ["ffplay", "-nodisp", "-loglevel", "warning", url]


async def of_program(player: str, radio: Radio, seconds: float) -> dict[str, Heard]:
    """Both formats at the same time, each in a player of its own."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="players-", ignore_cleanup_errors=True))
        environment = await stack.enter_async_context(sound_server(folder))
        for name in _FORMATS:
            command = _command(player, f"http://127.0.0.1:{radio.port}/stream/latest.{name}")
            theirs = {**environment, "PULSE_SINK": name, "SDL_AUDIODRIVER": "pulse"}
            # VLC refuses to run as root.
            user = "nobody" if player == "vlc" and os.geteuid() == 0 else None
            await stack.enter_async_context(child_process(command, environment=theirs, user=user))
        heard = await asyncio.gather(*(monitored(name, environment, seconds) for name in _FORMATS))
        return dict(zip(_FORMATS, heard, strict=True))


_LISTEN = """
async ({url, seconds}) => {
    const audio = document.createElement("audio");
    audio.src = url;
    const context = new AudioContext({sampleRate: 48000});
    await context.resume();
    const analyser = context.createAnalyser();
    analyser.fftSize = 2048;
    analyser.smoothingTimeConstant = 0;
    context.createMediaElementSource(audio).connect(analyser).connect(context.destination);
    audio.play();
    const tones = [];
    const samples = new Float32Array(2048), spectrum = new Float32Array(1024);
    const begun = Date.now();
    let quietUntil = 0;
    while (Date.now() - begun < seconds * 1000) {
        await new Promise(resolve => setTimeout(resolve, 5));
        analyser.getFloatTimeDomainData(samples);
        const first = samples.findIndex(sample => Math.abs(sample) > 0.05);
        if (first < 0 || first > 400 || Date.now() < quietUntil) continue;
        quietUntil = Date.now() + 500;
        analyser.getFloatFrequencyData(spectrum);
        let peak = 1;
        spectrum.forEach((level, index) => { if (index > 1 && level > spectrum[peak]) peak = index; });
        const [a, b, c] = [spectrum[peak - 1], spectrum[peak], spectrum[peak + 1]];
        const at = peak + (a - c) / (2 * (a - 2 * b + c));
        tones.push([Date.now() - (2048 - first) / 48, at * 48000 / 2048]);
    }
    return tones;
}
"""


async def of_browser(player: BrowserName, radio: Radio, seconds: float) -> dict[str, Heard]:
    """Both formats at the same time, each in a browser of its own."""

    async def listen(name: str, microphone: Path) -> Heard:
        # With a microphone, Firefox gets a sound server, without which its AudioContext does not run.
        async with browser_page(player, microphone=microphone) as page:
            await page.goto(f"http://127.0.0.1:{radio.port}/health")
            tones = await page.evaluate(_LISTEN, {"url": f"/stream/latest.{name}", "seconds": seconds})
            shift_s = time.monotonic() - time.time()
            return Heard([(at_ms / 1000 + shift_s, heard_hz) for at_ms, heard_hz in tones])

    with tempfile.TemporaryDirectory(prefix="players-") as folder:
        microphone = Path(folder) / "silence.wav"
        write_wav(microphone, np.zeros(_RATE_HZ, np.float32))
        heard = await asyncio.gather(*(listen(name, microphone) for name in _FORMATS))
        return dict(zip(_FORMATS, heard, strict=True))


def describe(delays_s: Sequence[float]) -> str:
    if not delays_s:
        return "nothing heard"
    settled = delays_s[len(delays_s) // 2 :]
    return f"{delays_s[0]:.2f} s at first, {median(settled):.2f} s then ({len(delays_s)} tones)"


async def measure(options: argparse.Namespace) -> None:
    payloads = loop_payloads(options.bitrate)
    for page_ms in options.page_ms:
        async with radio_with(payloads, ogg_page_ms=page_ms) as radio:
            begun_s = asyncio.get_running_loop().time()
            radio.speak()
            for player in options.players:
                browser = player in ("chromium", "firefox")
                heard = await (of_browser if browser else of_program)(player, radio, options.seconds)
                for name, tones in heard.items():
                    what = name if name == "mp3" else f"ogg, pages of {page_ms} ms"
                    print(f"{player}, {what}: {describe(tones.behind_s(begun_s))}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", nargs="+", choices=_PLAYERS, default=_PLAYERS)
    parser.add_argument("--page-ms", type=int, nargs="+", default=[100])
    parser.add_argument("--bitrate", type=int, default=48_000, help="of the sender's Opus")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each player is listened to")
    options = parser.parse_args()
    if missing := [program for program in ("pulseaudio", "parec") if shutil.which(program) is None]:
        print(f"{', '.join(missing)} must be installed", file=sys.stderr)
        return 2
    print(f"{datetime.date.today().isoformat()}. {machine.describe()}")
    asyncio.run(measure(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
