"""The page of recordings, in Chromium, with speech from a browser's microphone, and what other pages say of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, expect

from tests.support.audio import Samples, decode_audio
from tests.support.matching import assert_same_speech
from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.voice_pages import Visitors, listen, press, talk, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages_daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    folder = str(tmp_path_factory.mktemp("recordings"))
    recording = {"mode": "manual", "open": True, "folder": folder, "min_free_bytes": 0, "cue": True}
    async with running_server({"recording": recording}) as running:
        yield running


async def recorded(guests: Visitors, name: str, seconds: float = 3) -> Page:
    """The page, once a voice of that name has been recorded with it for so long."""
    sender = await guests.page("/sender")
    await talk(sender, name)
    page = await guests.page("/recordings")
    await page.get_by_role("button", name=f"Record: {name}", exact=True).click()
    await expect(page.locator("#days .badge:visible")).to_have_text("● Recording")
    await expect(sender.locator("#recorded")).to_have_text("● This voice is being recorded")
    await page.wait_for_timeout(seconds * 1000)
    await page.get_by_role("button", name=f"Stop recording: {name}", exact=True).click()
    await expect(page.get_by_role("button", name=f"Play: {name}", exact=True)).to_be_visible()
    await expect(sender.locator("#recorded")).to_be_hidden()
    await press(sender, "#talk")
    # What is below moves up, also under the mouse.
    await expect(page.locator("#live")).to_be_hidden()
    return page


async def test_speech_is_recorded_found_played_and_deleted(guests: Visitors, speech: Samples, tmp_path: Path) -> None:
    page = await recorded(guests, "kitchen")
    card = page.locator("#days li", has_text="kitchen")
    await expect(page.locator("#days h2")).to_have_text("Today")
    async with page.expect_download() as downloading:
        await card.locator(".save").click()
    download = await downloading.value
    assert download.suggested_filename.endswith("Z kitchen.opus")
    await download.save_as(tmp_path / "kitchen.opus")
    sound = decode_audio(tmp_path / "kitchen.opus")
    assert_same_speech(speech, sound, at_least_s=2.5)
    assert len(await card.locator(".wave path").first.get_attribute("d") or "") > 100
    # Played from where the slider is set.
    await card.locator(".seek").fill("1.5")
    await page.get_by_role("button", name="Play: kitchen").click()
    await page.wait_for_function("() => document.querySelector('#player').currentTime > 1.7")
    await expect(page.get_by_role("button", name="Pause: kitchen")).to_be_visible()
    await page.get_by_role("button", name="Pause: kitchen").click()
    # Searched.
    await page.get_by_label("Search by name").fill("attic")
    await expect(page.locator("#state")).to_have_text("No recording has this in its name")
    await page.get_by_label("Search by name").fill("KITCH")
    await expect(card).to_be_visible()
    # Deleted, not deleted after all, and deleted by leaving the page.
    await page.get_by_role("button", name="Delete: kitchen").click()
    await expect(card).to_have_count(0)
    await page.get_by_role("button", name="Undo").click()
    await expect(card).to_be_visible()
    await expect(page.get_by_role("button", name="Delete: kitchen")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Undo")).to_be_focused()
    other = await guests.page("/recordings")
    await expect(other.get_by_role("button", name="Play: kitchen")).to_be_visible()
    await page.goto(guests.server.url("/recordings"))
    for one in (page, other):
        await expect(one.locator("#state")).to_have_text("There are no recordings yet")


async def test_everybody_sees_that_a_voice_is_recorded(guests: Visitors, payloads: list[bytes]) -> None:
    sender = await guests.page("/sender")
    await talk(sender, "attic")
    listener = await guests.page("/receiver")
    await listen(listener, "attic")
    overview = await guests.page("/")
    await expect(overview.get_by_role("link", name="Recordings")).to_be_visible()
    page = await guests.page("/recordings")
    await page.get_by_role("button", name="Record: attic").click()
    for one in (sender, listener):
        await expect(one.locator("#recorded")).to_be_visible(timeout=10_000)
    await expect(overview.locator("li .recorded")).to_have_text("● This voice is being recorded", timeout=10_000)
    await press(sender, "#talk")
    # What begins, ends and is deleted meanwhile takes nothing out of anybody's hands.
    position = page.locator("#days li", has_text="attic").locator(".seek")
    await position.fill("0.5")
    await position.focus()
    garden = page.locator("#days li", has_text="garden")
    async with aiohttp.ClientSession() as http:
        async with voice_sender(guests.server.ws_url, name="garden") as other:
            await other.send(payloads[:10])
            await other.signalling.expect("stream_available", stream_id="garden")
            async with http.post(guests.server.url("/api/recordings"), json={"stream": "garden"}) as answer:
                recording = (await answer.json())["id"]
            await expect(garden.locator(".badge")).to_be_visible()
            await other.send(payloads[:10])
        await expect(garden.locator(".play")).to_be_visible()
        async with http.delete(guests.server.url(f"/api/recordings/{recording}")) as answer:
            assert answer.status == 204
    await expect(garden).to_have_count(0)
    await expect(position).to_be_focused()
    await expect(position).to_have_value("0.5")
    await page.get_by_role("button", name="Delete: attic").click()


async def test_the_page_is_accessible(guests: Visitors) -> None:
    page = await recorded(guests, "cellar", seconds=1)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    # Without a mouse.
    await page.get_by_role("button", name="Play: cellar").focus()
    await page.keyboard.press("Space")
    await page.wait_for_function("() => document.querySelector('#player').currentTime > 0")
    await page.locator(".seek").focus()
    await page.keyboard.press("Home")
    await page.get_by_role("button", name="Delete: cellar").focus()
    await page.keyboard.press("Enter")


async def test_a_server_that_refuses_says_why(pages_browser: Browser) -> None:
    async with running_server({"recording": {"mode": "manual"}}) as server, visitors(pages_browser, server) as guests:
        page = await guests.page("/recordings")
        await expect(page.locator("#problem")).to_contain_text("Recordings need a token")
