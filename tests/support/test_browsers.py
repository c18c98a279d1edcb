"""The browsers' microphones and recorders, with pages that call themselves: no server of ours is on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.audio import Samples, encode_mp3
from tests.support.browsers import BROWSERS, BrowserName, BrowserPage, browser_page
from tests.support.firefox import firefox
from tests.support.matching import assert_same_speech, match
from tests.support.pages import record_element, record_stream
from tests.support.speech import OTHER_TEXT, synthesise

pytestmark = pytest.mark.e2e

# A call from the page to itself; without echo cancellation, which would rightly remove what the page itself plays.
PAGE = """<!doctype html><title>Test</title>
<button>Play</button> <audio id="call" autoplay></audio> <audio id="file" src="speech.mp3"></audio>
<script>
async function call() {
    window.microphone = await navigator.mediaDevices.getUserMedia({audio: {echoCancellation: false}});
    const [here, there] = [new RTCPeerConnection(), new RTCPeerConnection()];
    here.onicecandidate = event => there.addIceCandidate(event.candidate);
    there.onicecandidate = event => here.addIceCandidate(event.candidate);
    there.ontrack = event => { document.querySelector("#call").srcObject = event.streams[0]; };
    here.addTrack(window.microphone.getTracks()[0], window.microphone);
    await here.setLocalDescription();
    await there.setRemoteDescription(here.localDescription);
    await there.setLocalDescription();
    await here.setRemoteDescription(there.localDescription);
}
document.querySelector("button").onclick = event => {
    window.trusted = event.isTrusted;
    console.log("clicked");
    document.querySelector("#file").play();
};
</script>"""


@pytest.fixture
async def page_url(speech: Samples) -> AsyncIterator[str]:
    mp3 = encode_mp3(speech)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=mp3, content_type="audio/mpeg")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/speech.mp3", file)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_the_microphone_speaks_and_a_call_is_heard(
    speaking_page: BrowserPage, page_url: str, speech: Samples
) -> None:
    await speaking_page.goto(page_url)
    await speaking_page.evaluate("call")
    said, heard = await asyncio.gather(
        record_stream(speaking_page, "window.microphone", seconds=4), record_element(speaking_page, "#call", seconds=4)
    )
    assert_same_speech(speech, said, at_least_s=3)
    assert_same_speech(speech, heard, at_least_s=3)
    assert match(synthesise(OTHER_TEXT), heard).score < 0.3


@pytest.mark.parametrize("name", BROWSERS)
async def test_a_page_is_clicked_played_recorded_and_pictured(
    name: BrowserName, page_url: str, speech: Samples, tmp_path: Path
) -> None:
    async with browser_page(name, autoplay=False) as page:
        await page.goto(page_url)
        with pytest.raises(Exception, match="not playing"):
            await record_element(page, "#file", seconds=1, timeout_s=0.2)
        await page.click("button")
        heard = await record_element(page, "#file", seconds=3)
        assert await page.evaluate("() => window.trusted") is True
        await page.set_viewport_size({"width": 480, "height": 320})
        assert await page.evaluate("() => innerWidth") == 480
        await page.screenshot(path=tmp_path / "page.png")
        assert await page.evaluate("async ({a}) => ({sum: a + 1})", {"a": 2}) == {"sum": 3}
        with pytest.raises(Exception, match="no such thing"):
            await page.evaluate("async () => { throw new Error('no such thing'); }")
    assert_same_speech(speech, heard, at_least_s=2.5, score=0.9)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


async def test_firefox_keeps_the_rule_for_sound_before_a_click(page_url: str) -> None:
    play = "() => document.querySelector('#file').play().then(() => 'plays', error => error.name)"
    # Who may use the microphone may play as well.
    async with firefox(autoplay=False, grant_microphone=False) as browser:
        page = await browser.new_page()
        await page.goto(page_url)
        assert await page.evaluate(play) == "NotAllowedError"
        await page.click("button")
        assert await page.evaluate(play) == "plays"
        assert page.console() == ["info: clicked"]
