"""What a press on the talk page costs, as it is heard on the listen page, in Chromium and Firefox.

The microphone is made of tones: one for the first END_S of a press, another for its middle, a third for its last END_S.
So what is heard tells how soon it came, and how much is missing at either end.
"""

import asyncio
import base64
import random
import statistics
import sys
import tempfile
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.browsers import BrowserName, BrowserPage, browser_page
from tests.support.server import running_server

END_S = 0.06
_FRONT_HZ, _MIDDLE_HZ, _BACK_HZ = 2000, 600, 1000
_PAIRS: tuple[tuple[BrowserName, BrowserName], ...] = (("chromium", "firefox"), ("firefox", "chromium"))
_WINDOW_S, _HOP_S = 0.01, 0.0025
_AUDIBLE = 0.02
"""Of an amplitude of 0.5 that was sent."""
_AFTER_S = 0.7
"""What comes later than that after a release is not the press's."""

_MAKE_MICROPHONE = """
async () => {
    const context = new AudioContext({sampleRate: 48000});
    await context.resume();
    const out = context.createMediaStreamDestination();
    const gain = context.createGain();
    const tone = context.createOscillator();
    gain.gain.value = 0;
    tone.connect(gain).connect(out);
    tone.start();
    window.voice = {context, gain: gain.gain, frequency: tone.frequency};
    navigator.mediaDevices.getUserMedia = async () => out.stream.clone();
}
"""

_PRESS = """
async ({seconds, end, hz}) => {
    const {context, gain, frequency} = window.voice;
    const button = document.querySelector("#talk");
    const now = context.currentTime;
    frequency.setValueAtTime(hz[0], now);
    frequency.setValueAtTime(hz[1], now + end);
    frequency.setValueAtTime(hz[2], now + seconds - end);
    gain.setValueAtTime(0.5, now);
    gain.setValueAtTime(0, now + seconds);
    const pressed = performance.timeOrigin + performance.now();
    button.dispatchEvent(new PointerEvent("pointerdown", {bubbles: true, button: 0}));
    await new Promise(resolve => setTimeout(resolve, 1000 * seconds));
    dispatchEvent(new PointerEvent("pointerup", {bubbles: true, button: 0}));
    return pressed;
}
"""

# The modules look RTCPeerConnection up when they need it, so this works on a loaded page.
_WATCH_PEERS = """
() => {
    window.peers = [];
    const Peer = RTCPeerConnection;
    window.RTCPeerConnection = class extends Peer {
        constructor(configuration) {
            super(configuration);
            peers.push(this);
        }
    };
}
"""

_RECORD = """
async () => {
    const track = peers.at(-1).getReceivers()[0].track;
    const context = new AudioContext({sampleRate: 48000});
    await context.resume();
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const tap = context.createScriptProcessor(256, 1, 1);
    window.heard = {blocks: [], count: 0, begun: Infinity, keep: [source, tap]};
    tap.onaudioprocess = ({inputBuffer}) => {
        const samples = new Float32Array(inputBuffer.getChannelData(0));
        heard.count += samples.length;
        // The block that came with the least delay tells best when recording began.
        const now = performance.timeOrigin + performance.now();
        heard.begun = Math.min(heard.begun, now - heard.count / 48);
        heard.blocks.push(samples);
    };
    source.connect(tap).connect(context.destination);
}
"""

_TAKE = """
() => {
    const {blocks, count, begun} = heard;
    const kept = blocks.reduce((sum, block) => sum + block.length, 0);
    const samples = new Int16Array(kept);
    let at = 0;
    for (const block of blocks) for (const one of block) samples[at++] = Math.max(-1, Math.min(1, one)) * 32767;
    heard.blocks = [];
    const bytes = new Uint8Array(samples.buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return {first: begun + (count - kept) / 48, audio: btoa(text)};
}
"""

_STATE = "() => document.querySelector('#talk').dataset.state"


@dataclass
class _Presses:
    """What came of them, in milliseconds each."""

    soon_ms: list[float] = field(default_factory=list)
    front_lost_ms: list[float] = field(default_factory=list)
    back_lost_ms: list[float] = field(default_factory=list)
    unheard: int = 0

    def note(self, pressed_ms: float, first_ms: float, samples: npt.NDArray[np.float64]) -> None:
        """`first_ms`: when the first sample was heard, by the clock of `pressed_ms`."""
        begin = max(round((pressed_ms - first_ms) * 48), 0)
        loud = np.flatnonzero(np.abs(samples[begin:]) > _AUDIBLE)
        if not len(loud):
            self.unheard += 1
            return
        self.soon_ms.append(first_ms + (begin + int(loud[0])) / 48 - pressed_ms)
        heard = _durations_ms(samples[begin:])
        self.front_lost_ms.append(max(1e3 * END_S - heard[_FRONT_HZ], 0))
        self.back_lost_ms.append(max(1e3 * END_S - heard[_BACK_HZ], 0))


def _durations_ms(samples: npt.NDArray[np.float64]) -> dict[int, float]:
    """How long each tone is the loudest."""
    length, hop = round(_WINDOW_S * 48_000), round(_HOP_S * 48_000)
    count = max((len(samples) - length) // hop, 0)
    frames = np.stack([samples[number * hop : number * hop + length] for number in range(count)])
    times = np.arange(length) / 48_000
    tones = (_FRONT_HZ, _MIDDLE_HZ, _BACK_HZ)
    waves = np.stack([np.exp(-2j * np.pi * hz * times) for hz in tones], axis=1)
    levels = 2 * np.abs(frames @ waves) / length
    loudest, level = levels.argmax(axis=1), levels.max(axis=1)
    return {hz: 1e3 * _HOP_S * int(((loudest == i) & (level > _AUDIBLE)).sum()) for i, hz in enumerate(tones)}


async def measure_pages(presses: int) -> None:
    """Prints a line for each pair of browsers, ready and as without."""
    for talker, listener in _PAIRS:
        ready, cold = _Presses(), _Presses()
        async with (
            running_server() as server,
            _listener(listener, server.url("/receiver")) as heard,
            _talker(talker, server.url("/sender")) as page,
        ):
            for number in range(presses):
                await _press(page, heard, ready, stays_ready=True)
                if number < max(presses // 5, 1):
                    await _press(page, heard, cold, stays_ready=False)
        _print(f"{talker} to {listener}, ready", ready)
        _print(f"{talker} to {listener}, microphone and connection made at the press", cold)


@asynccontextmanager
async def _talker(name: BrowserName, url: str) -> AsyncIterator[BrowserPage]:
    async with _page(name) as page:
        await page.goto(url)
        await page.evaluate(_MAKE_MICROPHONE)
        yield page


@asynccontextmanager
async def _listener(name: BrowserName, url: str) -> AsyncIterator[BrowserPage]:
    async with _page(name) as page:
        await page.goto(url)
        await page.evaluate(_WATCH_PEERS)
        await page.click("#listen")
        await _until(page, "() => peers.at(-1)?.connectionState", "connected")
        await page.evaluate(_RECORD)
        yield page


async def _press(page: BrowserPage, heard: BrowserPage, presses: _Presses, *, stays_ready: bool) -> None:
    await _set_stays_ready(page, stays_ready)
    if stays_ready:
        await _until(page, _STATE, "ready")
    await asyncio.sleep(random.uniform(0.3, 0.6))
    await heard.evaluate(_TAKE)
    seconds = random.uniform(0.45, 1.5)  # a shorter one is a tap, which switches
    asked = {"seconds": seconds, "end": END_S, "hz": [_FRONT_HZ, _MIDDLE_HZ, _BACK_HZ]}
    pressed_ms = float(await page.evaluate(_PRESS, asked))
    await asyncio.sleep(_AFTER_S)
    taken = await heard.evaluate(_TAKE)
    samples = np.frombuffer(base64.b64decode(taken["audio"]), np.int16) / 32767
    presses.note(pressed_ms, float(taken["first"]), samples)
    await _until(page, _STATE, "ready" if stays_ready else "idle")


async def _set_stays_ready(page: BrowserPage, stays_ready: bool) -> None:
    change = """on => {
        const box = document.querySelector("#stays-ready");
        if (box.checked !== on) box.click();
        if (on && document.querySelector("#talk").dataset.state === "idle") document.querySelector("#arm").click();
    }"""
    await page.evaluate(change, stays_ready)
    if not stays_ready:
        await _until(page, _STATE, "idle")


@asynccontextmanager
async def _page(name: BrowserName) -> AsyncIterator[BrowserPage]:
    """Firefox has a device to play on, without which its sound stands still, only with a microphone."""
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder, "silence.wav")
        with wave.open(str(microphone), "wb") as silence:
            silence.setparams((1, 2, 48_000, 0, "NONE", ""))
            silence.writeframes(bytes(96_000))
        async with browser_page(name, microphone=microphone) as page:
            yield page


async def _until(page: BrowserPage, value: str, wanted: str) -> None:
    async with asyncio.timeout(20):
        while await page.evaluate(value) != wanted:  # noqa: ASYNC110 - the page is another process
            await asyncio.sleep(0.02)


def _print(title: str, presses: _Presses) -> None:
    print(f"{title}: {len(presses.soon_ms)} presses heard, {presses.unheard} not")
    if presses.soon_ms:
        print(
            f"  press to sound: median {statistics.median(presses.soon_ms):.0f} ms, longest {max(presses.soon_ms):.0f}"
        )
        for where, lost_ms in (("front", presses.front_lost_ms), ("end", presses.back_lost_ms)):
            print(f"  lost at the {where}: median {statistics.median(lost_ms):.0f} ms, most {max(lost_ms):.0f} of 60")
