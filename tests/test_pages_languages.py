"""The pages in other languages than English, and names of streams in scripts from right to left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.voice_pages import Visitors, press, press_once_ready, says
from voice_streaming.web.languages import TRANSLATED, words

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

HEBREW = "מטבח!"
ISOLATED = f"\u2068{HEBREW}\u2069"
# Where the name's last character, a neutral one, is drawn: left of its first one, unless the sentence has moved it.
_READS_RIGHT_TO_LEFT = """
({selector, name}) => {
    const walker = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
    const left = (node, index) => {
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + 1);
        return range.getBoundingClientRect().left;
    };
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const index = node.data.indexOf(name);
        if (index >= 0) return left(node, index + name.length - 1) < left(node, index);
    }
    throw new Error(`${name} is not in ${selector}`);
}
"""


async def reads_right_to_left(page: Page, selector: str) -> bool:
    return bool(await page.evaluate(_READS_RIGHT_TO_LEFT, {"selector": selector, "name": HEBREW}))


async def assert_narrow(page: Page) -> None:
    """Nothing needs to be scrolled sideways on the narrowest phone."""
    await page.set_viewport_size({"width": 320, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320, page.url


def said(language: str) -> dict[str, Any]:
    scripts: dict[str, Any] = words(language)["scripts"]
    return scripts


@pytest.mark.parametrize("language", TRANSLATED)
async def test_everything_is_said_in_the_language_of_the_browser(language: str, guests: Visitors) -> None:
    text = said(language)
    sender = await guests.page("/sender", locale=language)
    await says(sender, f"^{text['senderOff']}$")
    assert await sender.get_attribute("html", "lang") == language
    await sender.fill("#name", "kitchen")
    await press(sender, "#talk")
    await says(sender, text["liveAs"].replace("{name}", "kitchen"))
    await says(sender, text["stop"], "#talk-label")
    await assert_narrow(sender)

    receiver = await guests.page("/receiver", locale=language)
    await press(receiver, "#listen")
    await says(receiver, text["youHear"].replace("{name}", "kitchen"))
    await says(receiver, text["behindServer"].replace("{n}", r"\S+"), "#delay")
    await assert_narrow(receiver)
    await says(sender, f"· {text['receivers']['one'].replace('{n}', '1')}$", "#facts")

    overview = await guests.page("/", locale=language)
    await expect(overview.locator(".badge")).to_have_text(text["live"])
    copy = text["of"].replace("{what}", text["copyMp3"]).replace("{name}", "kitchen")
    await expect(overview.get_by_role("button", name=copy, exact=True)).to_have_text(text["copyMp3"])
    await assert_narrow(overview)

    await assert_narrow(await guests.page("/certificate", locale=language))
    player = await guests.page("", url=guests.server.audio_url("/stream/latest.mp3"), locale=language)
    await says(player, f"^{text['isLive'][0]}$")
    await assert_narrow(player)


async def test_another_language_can_be_chosen_and_stays(guests: Visitors) -> None:
    page = await guests.page("/certificate?from=test", locale="de-AT")
    await expect(page.locator("html")).to_have_attribute("lang", "de")
    await expect(page.locator("#language")).to_have_value("de")
    await expect(page.locator("#language")).to_have_accessible_name("Sprache")
    await page.select_option("#language", "fr")
    await expect(page.locator("html")).to_have_attribute("lang", "fr")
    await expect(page.locator("#language")).to_have_value("fr")
    assert page.url == guests.server.url("/certificate?from=test")
    await page.goto(guests.server.url("/sender"))
    await says(page, f"^{said('fr')['senderOff']}$")
    await page.goto(guests.server.audio_url("/stream/latest.mp3"))
    await says(page, f"^{said('fr')['nobodyYet'][0]}$")
    await page.goto(guests.server.url("/receiver?lang=es"))
    await says(page, f"^{said('es')['off']}$")
    await page.select_option("#language", "en")
    await expect(page.locator("#state")).to_have_text("Off")
    assert page.url == guests.server.url("/receiver")


async def test_a_browser_that_keeps_no_cookies_has_the_choice_in_the_address(guests: Visitors) -> None:
    refuse = "() => Object.defineProperty(Document.prototype, 'cookie', {get: () => '', set: () => {}})"
    page = await guests.page("/receiver?stream=attic", scripts=[refuse])
    await says(page, "^Off$")
    await page.select_option("#language", "de")
    await expect(page.locator("#state")).to_have_text(said("de")["off"])
    assert page.url == guests.server.url("/receiver?stream=attic&lang=de")


async def test_names_from_right_to_left_leave_the_words_around_them_where_they_are(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await sender.fill("#name", HEBREW)
    await press(sender, "#talk")
    await says(sender, f"^Live as “{ISOLATED}”$")
    assert await reads_right_to_left(sender, "#state")

    asking = await guests.page("/sender")
    await asking.fill("#name", HEBREW)
    await press(asking, "#talk")
    await says(asking, "is in use: take over", "#taken-question")
    assert await reads_right_to_left(asking, "#taken-question")

    receiver = await guests.page("/receiver")
    await press(receiver, "#listen")
    await says(receiver, f"^You hear “{ISOLATED}”$")
    assert await reads_right_to_left(receiver, "#state")
    await expect(receiver).to_have_title(f"{ISOLATED} · Voice")
    assert await receiver.locator("#choice option").all_text_contents() == [
        "Always the newest",
        ISOLATED,
        "All voices, mixed",
    ]

    overview = await guests.page("/")
    await says(overview, f"^Live: {ISOLATED}$")
    assert await reads_right_to_left(overview, "h2")
    await expect(overview.get_by_role("button", name=f"Listen: {ISOLATED}", exact=True)).to_be_visible()

    player = await guests.page("", url=guests.server.audio_url("/stream/latest.mp3"))
    await press_once_ready(player, "#start")
    await says(player, f"^You hear “{ISOLATED}”$")
    assert await reads_right_to_left(player, "#state")

    await press(sender, "#talk")
    waiting = await guests.page(f"/receiver?stream={HEBREW}")
    await press(waiting, "#listen")
    await says(waiting, f"^Waiting for “{ISOLATED}”…$")
    assert await reads_right_to_left(waiting, "#state")
    last = await waiting.locator("#choice > option").last.text_content()
    assert last == f"{ISOLATED} (not live)"


async def test_a_name_would_be_drawn_wrong_without_isolation(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await says(page, "^Off")
    await page.evaluate(f"document.querySelector('#state').textContent = {json.dumps(f'Live as “{HEBREW}”')}")
    assert not await reads_right_to_left(page, "#state")
