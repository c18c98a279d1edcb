"""What a page plays, as samples; the same for Chromium (a Playwright page) and Firefox (`firefox.FirefoxPage`)."""

from __future__ import annotations

import base64
from typing import Any, Protocol

from tests.support.audio import Samples, decode_audio


class ScriptedPage(Protocol):
    """A page that runs JavaScript."""

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Call the function that `expression` is with `arg`, await it, and return its result; both as JSON has them."""


# MediaRecorder, because it works off the page's thread, needs no AudioContext (hence no click), no worklet file that a
# Content-Security-Policy would forbid, and no secure context. Chromium records plain samples; Firefox has Opus only,
# at a bitrate that costs nothing to hear.
_RECORD = """
async ({source, seconds}) => {
    const stream = await (0, eval)(source);
    const audio = new MediaStream(stream.getAudioTracks());
    if (!audio.getTracks().length) throw new Error(`nothing to record in ${source}`);
    const mimeType = ["pcm", "opus"].map(codec => `audio/webm;codecs=${codec}`).find(MediaRecorder.isTypeSupported);
    const recorder = new MediaRecorder(audio, {mimeType, audioBitsPerSecond: 256000});
    const parts = [];
    recorder.ondataavailable = event => parts.push(event.data);
    const stopped = new Promise((resolve, reject) => {
        recorder.onstop = resolve;
        recorder.onerror = event => reject(event.error ?? new Error("the recorder failed"));
    });
    recorder.start();
    await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    if (recorder.state !== "inactive") recorder.stop();
    await stopped;
    const reader = new FileReader();
    await new Promise(resolve => { reader.onload = resolve; reader.readAsDataURL(new Blob(parts)); });
    return reader.result.split(",")[1] ?? "";
}
"""

_STREAM_OF_ELEMENT = """
(() => {
    const element = document.querySelector(%r);
    return element.srcObject ?? (element.captureStream ?? element.mozCaptureStream).call(element);
})()
"""

_HEARD = """
async ({selector, timeout_ms}) => {
    const element = document.querySelector(selector);
    const begun = performance.now();
    const from = element.currentTime;
    while (element.paused || element.muted || element.volume === 0 || element.currentTime <= from) {
        if (performance.now() - begun > timeout_ms) {
            const {paused, muted, volume, currentTime, readyState} = element;
            throw new Error(`not playing: ${JSON.stringify({paused, muted, volume, currentTime, readyState})}`);
        }
        await new Promise(resolve => setTimeout(resolve, 20));
    }
}
"""


async def record_stream(page: ScriptedPage, source: str, *, seconds: float) -> Samples:
    """Record a MediaStream for some time; `source` is JavaScript whose value it is, or a promise of it.

    Ends earlier when all of its tracks end.
    """
    recorded = await page.evaluate(_RECORD, {"source": source, "seconds": seconds})
    return decode_audio(base64.b64decode(recorded))


async def record_element(page: ScriptedPage, selector: str, *, seconds: float, timeout_s: float = 10) -> Samples:
    """Record what an `<audio>` or `<video>` element plays, once it plays audibly; it may have a file or a stream.

    Fails if the element is not playing, muted, or at volume 0 after the timeout. A file of another origin can only be
    recorded when the element asks with CORS.
    """
    await page.evaluate(_HEARD, {"selector": selector, "timeout_ms": timeout_s * 1000})
    return await record_stream(page, _STREAM_OF_ELEMENT % selector, seconds=seconds)
