"""Rooms on the pages: three browsers that talk at once, and who is told what."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.support.audio import Samples, decode_audio, decode_opus, write_wav
from tests.support.chromium import chromium
from tests.support.firefox import firefox
from tests.support.pages import ScriptedPage
from tests.support.server import RunningServer, running_server
from tests.support.tones import tone
from tests.support.voice_pages import Visitors, press, says, visitors
from tests.support.voices import level_of
from tests.support.whip_client import whip_client
from tests.support.whip_peers import playing

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

TONES = {"attic": 500, "garage": 900, "cellar": 1300}
UNPROCESSED = """
() => {
    if (location.protocol === "about:") return;
    const off = ["noiseSuppression", "echoCancellation", "autoGainControl"];
    for (const key of off) localStorage[`voice.${key}`] = "false";
}
"""
# What lasts of what WebRTC brings within two seconds, in dB, near each of these frequencies: a click of a busy machine,
# which has all of them, is over with the next look, and the talkers' tones do not pause.
LEVELS = """
async (frequencies) => {
    const tracks = peers.filter((peer) => peer.connectionState === "connected")
        .flatMap((peer) => peer.getReceivers()).map(({track}) => track).filter((track) => track.readyState === "live");
    const context = new AudioContext();
    await context.resume();
    const analyser = new AnalyserNode(context, {fftSize: 4096, smoothingTimeConstant: 0});
    for (const track of tracks) context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const looks = frequencies.map(() => []);
    const bins = new Float32Array(analyser.frequencyBinCount);
    for (const begun = performance.now(); performance.now() - begun < 2000; ) {
        await new Promise(resolve => setTimeout(resolve, 100));
        analyser.getFloatFrequencyData(bins);
        frequencies.forEach((frequency, index) => {
            const at = Math.round(frequency * 4096 / context.sampleRate);
            looks[index].push(Math.max(...bins.slice(at - 2, at + 3)));
        });
    }
    await context.close();
    return looks.map((levels) => levels.sort((one, other) => one - other)[Math.floor(levels.length / 2)]);
}
"""
HEARD_DB = -55
FAR_BELOW_DB = 15
"""A voice that is in a mix is about as loud there as the others. What a busy machine does to their tones, as it cuts
and stretches them, lies some 20 dB below them at every frequency."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages_daemon() -> AsyncIterator[RunningServer]:
    config = {"rooms": ["Kitchen", "Office"], "streams": {"exclusive_rooms": ["Office"]}}
    async with running_server(config) as running:
        yield running


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each talker's microphone."""
    folder = tmp_path_factory.mktemp("tones")
    for name, frequency_hz in TONES.items():
        write_wav(folder / f"{name}.wav", (tone(frequency_hz, -20, 48_000 * 5, 1)[:, 0] / 32_768).astype(np.float32))
    return {name: folder / f"{name}.wav" for name in TONES}


async def waiting_in_kitchen(guests: Visitors) -> Page:
    page = await guests.page("/receiver?room=Kitchen")
    await press(page, "#listen")
    await says(page, "^Waiting for a voice in Kitchen")
    return page


async def talk_to_kitchen(page: ScriptedPage, name: str) -> None:
    await page.evaluate("name => { document.querySelector('#name').value = name; }", name)
    await press(page, "#talk")
    await says(page, f"^Live as “{name}”$")


async def assert_hears(page: ScriptedPage, expected: set[str], what: str) -> None:
    """Those, and the others far below; a mix begins with the first words after a change."""
    deadline_s = time.monotonic() + 15
    while True:
        levels = dict(zip(TONES, await page.evaluate(LEVELS, list(TONES.values())), strict=True))
        weakest = min(levels[name] for name in expected)
        if weakest > HEARD_DB and all(levels[name] < weakest - FAR_BELOW_DB for name in TONES if name not in expected):
            return
        assert time.monotonic() < deadline_s, (what, levels)


async def assert_all_in(take: Callable[[], Awaitable[Samples]], what: str) -> None:
    """Each talker's tone; recorded anew while a busy machine holds one of them up."""
    deadline_s = time.monotonic() + 15
    while True:
        samples = await take()
        levels = {name: level_of(samples, frequency_hz) for name, frequency_hz in TONES.items()}
        if min(levels.values()) > 0.01:
            return
        assert time.monotonic() < deadline_s, (what, levels)


async def test_three_browsers_in_a_room_hear_each_other_and_nobody_himself(
    pages_daemon: RunningServer, tones: dict[str, Path]
) -> None:
    server = pages_daemon
    async with AsyncExitStack() as stack:
        pages: dict[str, Page] = {}
        for name in ("attic", "garage"):
            browser = await stack.enter_async_context(chromium(microphone=tones[name]))
            guests = await stack.enter_async_context(visitors(browser, server))
            page = pages[name] = await guests.page("/sender?rooms=Kitchen", scripts=[UNPROCESSED])
            await page.locator("#intercom").check()
            if name == "attic":
                listener = await guests.page("/receiver?room=Kitchen")
        fox = await (await stack.enter_async_context(firefox(microphone=tones["cellar"]))).new_page()
        await fox.goto(server.url("/sender?rooms=kitchen"))
        await fox.evaluate(UNPROCESSED)
        await fox.goto(server.url("/sender?rooms=kitchen"))
        whep = await stack.enter_async_context(whip_client(server.url("/")))
        player, _ = await stack.enter_async_context(playing(whep, "/whep/room/Kitchen"))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await press(listener, "#listen")
        for name, page in pages.items():
            await talk_to_kitchen(page, name)
            await expect(page.locator("#whom")).to_have_text("Only for Kitchen")
        await says(listener, "^You hear “attic” and “garage”$")
        await says(pages["attic"], "“garage” is talking", "#room-list .facts")
        await talk_to_kitchen(fox, "cellar")
        await says(listener, "^You hear “attic”, “garage”, and “cellar”$")
        radio = await stack.enter_async_context(http.get(server.audio_url("/room/Kitchen.mp3")))
        await assert_hears(listener, set(TONES), "the listener")
        for name, page in pages.items():
            await assert_hears(page, set(TONES) - {name}, name)

        async def radio_now() -> Samples:
            return decode_audio(await radio.content.readexactly(48_000))[48_000:]

        async def whep_now() -> Samples:
            await player.packets.wait_for(len(player.packets.payloads()) + 50)
            return decode_opus(player.packets.payloads()[-150:])

        await assert_all_in(radio_now, "MP3")
        await assert_all_in(whep_now, "WHEP")
        # They are for a room alone: the pages that know of none have nobody.
        async with http.get(server.url("/stream/status")) as answer:
            assert (await answer.json())["active_streams"] == []
        for page in pages.values():
            await press(page, "#talk")
        await press(fox, "#talk")
        await says(listener, "^Waiting for a voice in Kitchen")


async def test_a_room_of_its_own_button_and_who_is_there(guests: Visitors) -> None:
    listener = await waiting_in_kitchen(guests)
    sender = await guests.page("/sender")
    kitchen = sender.locator("#room-list li", has_text="Kitchen")
    await expect(kitchen.locator(".facts")).to_have_text("1 receiver")
    await expect(sender.locator("#room-list li", has_text="Office").locator(".facts")).to_have_text(
        "nobody is there · one at a time"
    )
    await expect(sender.locator("#whom")).to_have_text("The round button talks to everyone")
    await sender.evaluate("() => { document.querySelector('#name').value = 'attic'; }")
    # Held.
    await kitchen.get_by_role("button", name="Talk: Kitchen").hover()
    await sender.mouse.down()
    await says(listener, "^You hear “attic”$")
    await expect(kitchen.get_by_role("button", name="Stop: Kitchen")).to_be_visible()
    await sender.wait_for_timeout(500)  # longer than a short press
    await sender.mouse.up()
    await says(listener, "^Waiting for a voice in Kitchen")
    # Chosen for the round button, and remembered.
    await kitchen.get_by_role("checkbox").check()
    await expect(sender.locator("#whom")).to_have_text("The round button talks to Kitchen alone")
    await sender.reload()
    await sender.locator("#name").fill("attic")
    await expect(sender.locator("#whom")).to_have_text("The round button talks to Kitchen alone")
    await press(sender, "#talk")
    await says(listener, "^You hear “attic”$")
    await press(sender, "#talk")


async def test_whoever_is_not_to_be_disturbed_hears_what_is_urgent_alone(guests: Visitors) -> None:
    listener = await waiting_in_kitchen(guests)
    await listener.locator("#quiet-room").check()
    await listener.locator("#quiet").select_option("30")
    await expect(listener.locator("#quiet-state")).to_have_text(re.compile("^Only urgent voices until "))
    sender = await guests.page("/sender?rooms=Kitchen")
    facts = sender.locator("#room-list li", has_text="Kitchen").locator(".facts")
    await expect(facts).to_have_text(re.compile("do not disturb until "))
    await talk_to_kitchen(sender, "attic")
    await expect(sender.locator("#facts")).to_have_text(re.compile("nobody listens yet"))
    await press(sender, "#talk")
    sender.on("dialog", lambda dialog: dialog.accept())
    await sender.locator("#urgent").check()
    await talk_to_kitchen(sender, "attic")
    await says(listener, "^You hear “attic”$")
    await press(sender, "#talk")
    await listener.locator("#quiet").select_option("0")
    await expect(facts).not_to_have_text(re.compile("do not disturb"))


async def test_an_exclusive_room_tells_the_second_talker_who_talks(guests: Visitors) -> None:
    first = await guests.page("/sender?rooms=Office")
    await talk_to_kitchen(first, "attic")
    second = await guests.page("/sender?rooms=Office")
    await second.evaluate("() => { document.querySelector('#name').value = 'garage'; }")
    await press(second, "#talk")
    await says(second, "^Somebody talks in this room now", "#problem")
    await press(first, "#talk")
    await says(first, "^Ready")
    await press(second, "#talk")
    await says(second, "^Live as “garage”$")
    await press(second, "#talk")
