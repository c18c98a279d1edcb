"""npm's clients of WHIP and WHEP in real browsers, in pages of other origins, over HTTPS and behind ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.support.audio import Samples, decode_opus, encode_opus, write_wav
from tests.support.browsers import BROWSERS, BrowserName, browser_page
from tests.support.chromium import chromium
from tests.support.ingress import ingress
from tests.support.matching import assert_same_speech
from tests.support.pages import ScriptedPage, record_stream
from tests.support.ports import free_port
from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.speech import synthesise
from tests.support.trust import download_authority
from tests.support.whip_pages import EYEVINN, WHIP_WHEP, bundle, page_of_another_origin

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def speech() -> Samples:
    return np.concatenate([synthesise(), np.zeros(9_600, dtype=np.float32)])


@pytest.fixture(scope="module")
def microphone(speech: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    write_wav(path, speech)
    return path


async def publish_play_and_stop(page: ScriptedPage, server: RunningServer, base: str, speech: Samples) -> None:
    """The page does it all below `base`; what it hears, and what a receiver hears, is what it says."""
    async with signalling(server.ws_url) as watcher:
        published: dict[str, Any] = await page.evaluate(
            "async asked => publish(asked)", {"url": f"{base}/whip/kitchen", "withVideo": True}
        )
        # Its video section was refused: Chromium forgets it, Firefox has it as stopped. Audio goes on.
        assert published["directions"] in (["sendonly"], ["sendonly", "stopped"])
        assert set(published["trickled"]) == {204}
        await watcher.expect("stream_available", stream_id="kitchen")
        await page.evaluate("async asked => play(asked)", {"url": f"{base}/whep/kitchen", "withVideo": True})
        async with voice_receiver(server.ws_url, "kitchen") as receiver:
            heard = await record_stream(page, "played", seconds=5)
            assert_same_speech(speech, heard)
            assert_same_speech(speech, decode_opus(receiver.packets.payloads()))
        await page.evaluate("async () => { await player.stop(); await publisher.stop(); }")
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")


@pytest.mark.parametrize("name", BROWSERS)
async def test_a_page_publishes_plays_trickles_and_stops(name: BrowserName, microphone: Path, speech: Samples) -> None:
    port = free_port()
    settings = {"access": {"allowed_origins": [f"http://127.0.0.1:{port}"]}}
    async with (
        running_server(settings) as server,
        page_of_another_origin(port, WHIP_WHEP) as address,
        browser_page(name, microphone=microphone) as page,
    ):
        await page.goto(address)
        await publish_play_and_stop(page, server, server.url(""), speech)


async def test_a_page_does_so_over_https(microphone: Path, speech: Samples, tmp_path: Path) -> None:
    """The page is of `http://127.0.0.1`, which browsers take for as safe as HTTPS."""
    port, tls_port, authority = free_port(), free_port(), tmp_path / "ca.crt"
    settings = {
        "server": {"tls": "auto", "tls_port": tls_port, "data_dir": str(tmp_path / "data")},
        "access": {"allowed_origins": [f"http://127.0.0.1:{port}"]},
    }
    async with running_server(settings) as server, page_of_another_origin(port, WHIP_WHEP) as address:
        await download_authority(server, authority)
        async with chromium(microphone=microphone, authority=authority) as browser:
            page = await browser.new_page()
            await page.goto(address)
            await publish_play_and_stop(page, server, f"https://127.0.0.1:{tls_port}", speech)


async def test_a_page_does_so_behind_ingress(microphone: Path, speech: Samples) -> None:
    """The page is of Home Assistant's own origin: its cookie goes with every request, those to `Location` included."""
    port = free_port()
    async with (
        running_server({"access": {"ingress_address": "127.0.0.1"}}, environment={"INGRESS_PORT": str(port)}) as server,
        ingress(port) as proxy,
        chromium(microphone=microphone) as browser,
    ):
        page = await browser.new_page()
        await page.goto(proxy.home)
        await page.add_script_tag(content=await bundle(WHIP_WHEP), type="module")
        await page.wait_for_function("window.loaded")
        await publish_play_and_stop(page, server, proxy.url(""), speech)


@asynccontextmanager
async def speaking(server: RunningServer, speech: Samples) -> AsyncIterator[None]:
    """The stream `kitchen` says the speech over and over while the block runs."""
    payloads = encode_opus(speech)
    async with voice_sender(server.ws_url, name="kitchen") as sender:

        async def speak() -> None:
            while True:
                await sender.send(payloads)

        talking = asyncio.create_task(speak())
        try:
            await sender.signalling.expect("stream_available")
            yield
        finally:
            talking.cancel()


@pytest.mark.parametrize("with_video", [False, True])
async def test_eyevinns_player_plays(with_video: bool, speech: Samples) -> None:
    """By default it asks for video too, which is refused: it plays the voice all the same."""
    port = free_port()
    settings = {"access": {"allowed_origins": [f"http://127.0.0.1:{port}"]}}
    async with (
        running_server(settings) as server,
        page_of_another_origin(port, EYEVINN) as address,
        speaking(server, speech),
        browser_page("chromium") as page,
    ):
        await page.goto(address)
        asked = {"url": server.url("/whep/kitchen"), "withVideo": with_video}
        assert await page.evaluate("async asked => play(asked)", asked) == ["audio"]
        assert_same_speech(speech, await record_stream(page, "played", seconds=5))
        await page.evaluate("async () => player.unload()")
        async with asyncio.timeout(10):
            while await receivers(server):  # noqa: ASYNC110 - nothing tells when it has gone
                await asyncio.sleep(0.05)


async def receivers(server: RunningServer) -> int:
    async with aiohttp.ClientSession() as http, http.get(server.url("/stream/status")) as answer:
        (stream,) = (await answer.json())["details"]
        return int(stream["receivers"])
