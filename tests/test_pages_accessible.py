"""The pages for everyone: by keyboard alone, and with nothing that axe-core finds serious, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect

from tests.support.voice_pages import Visitors, listen, press, says, take_over, talk

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

SERIOUS = {"serious", "critical"}


async def assert_accessible(page: Page) -> None:
    """In both colours, on the narrowest phone; nothing may need to be scrolled sideways."""
    await page.set_viewport_size({"width": 320, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    for colours in ("light", "dark"):
        await page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        found = (await Axe().run(page)).response["violations"]
        serious = [
            (rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found if rule["impact"] in SERIOUS
        ]
        assert not serious, (page.url, colours, serious)


async def overview_empty(guests: Visitors) -> Page:
    page = await guests.page("/")
    await says(page, "latest.mp3", "#latest")
    return page


async def overview_live(guests: Visitors) -> Page:
    await sender_live(guests)
    page = await guests.page("/")
    await page.click("button.listen")
    await expect(page.locator(".said")).to_have_text("You hear this voice.")
    return page


async def sender_off(guests: Visitors) -> Page:
    page = await guests.page("/sender")
    await says(page, "^Off")
    return page


async def sender_live(guests: Visitors) -> Page:
    page = await guests.page("/sender")
    await talk(page, "kitchen")
    return page


async def sender_ready(guests: Visitors) -> Page:
    page = await sender_live(guests)
    await press(page, "#talk")
    await says(page, "^Ready")
    return page


async def sender_muted(guests: Visitors) -> Page:
    page = await sender_live(guests)
    await press(page, "#mute")
    await says(page, "^Muted")
    return page


async def sender_replaced(guests: Visitors) -> Page:
    page = await sender_live(guests)
    await take_over(await guests.page("/sender"), "kitchen")
    await says(page, "Somebody else", "#problem")
    return page


async def sender_asked(guests: Visitors) -> Page:
    await sender_live(guests)
    page = await guests.page("/sender")
    await page.fill("#name", "kitchen")
    await press(page, "#talk")
    await says(page, "take over", "#taken-question")
    return page


async def receiver_waiting(guests: Visitors) -> Page:
    page = await guests.page("/receiver")
    await press(page, "#listen")
    await says(page, "^Waiting")
    return page


async def receiver_playing(guests: Visitors) -> Page:
    await sender_live(guests)
    page = await guests.page("/receiver")
    await listen(page, "kitchen")
    return page


async def certificate(guests: Visitors) -> Page:
    page = await guests.page("/certificate")
    await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    return page


async def player(guests: Visitors) -> Page:
    page = await guests.page("", url=guests.server.audio_url("/stream/latest.mp3"))
    await says(page, "^Nobody is talking yet$")
    return page


STATES: list[Callable[[Visitors], Coroutine[Any, Any, Page]]] = [
    overview_empty,
    overview_live,
    sender_off,
    sender_live,
    sender_ready,
    sender_muted,
    sender_replaced,
    sender_asked,
    receiver_waiting,
    receiver_playing,
    certificate,
    player,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_axe_finds_nothing_serious(
    state: Callable[[Visitors], Coroutine[Any, Any, Page]], guests: Visitors
) -> None:
    await assert_accessible(await state(guests))


async def test_axe_would_find_something(guests: Visitors) -> None:
    page = await sender_off(guests)
    await page.evaluate("document.querySelector('#state').style.color = 'silver'")
    with pytest.raises(AssertionError, match="color-contrast"):
        await assert_accessible(page)


async def tab_to(page: Page, selector: str) -> None:
    """Press the tab key until the element has the focus, which must be seen."""
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"the tab key does not lead to {selector}")


async def test_everything_is_done_by_keyboard_alone(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await tab_to(sender, "#talk")
    await sender.keyboard.press("Enter")
    await says(sender, "^Live as")
    await tab_to(sender, "#mute")
    await sender.keyboard.press("Space")
    await says(sender, "^Muted")
    await sender.keyboard.press("Space")
    await says(sender, "^Live as")

    receiver = await guests.page("/receiver")
    await tab_to(receiver, "#listen")
    await receiver.keyboard.press("Space")
    await says(receiver, "^You hear")
    await tab_to(receiver, "#choice")
    await receiver.keyboard.press("ArrowDown")
    await says(receiver, "^You hear")
    assert await receiver.input_value("#choice") != ""

    overview = await guests.page("/")
    await overview.locator("button.listen").wait_for()
    await tab_to(overview, "button.listen")
    await overview.keyboard.press("Enter")
    await expect(overview.locator(".said")).to_have_text("You hear this voice.")
    await tab_to(overview, "button.copy")
    await overview.keyboard.press("Enter")
    await expect(overview.locator("button.copy")).to_have_text("Copied")


async def test_changes_are_announced(guests: Visitors) -> None:
    for path in ("/sender", "/receiver", "/"):
        page = await guests.page(path)
        assert await page.get_attribute("#state", "role") == "status"
        assert await page.get_attribute("#server-problem", "role") == "alert"
    page = await sender_live(guests)
    await expect(page.get_by_role("meter", name="Microphone level")).to_be_visible()


async def test_names_of_buttons_say_what_a_press_does_and_to_what(guests: Visitors) -> None:
    """A label that changes and a pressed state beside it contradict each other: "Unmute, pressed"."""
    page = await sender_muted(guests)
    for name in ("Stop", "Unmute"):
        button = page.get_by_role("button", name=name, exact=True)
        await expect(button).to_be_visible()
        assert await button.get_attribute("aria-pressed") is None
    overview = await guests.page("/")
    for name in ("Listen: kitchen", "Copy MP3 address: kitchen"):
        await expect(overview.get_by_role("button", name=name, exact=True)).to_be_visible()


async def test_what_was_said_is_not_said_again(guests: Visitors) -> None:
    page = await overview_live(guests)
    changes = await page.evaluate(
        """async () => {
            let changes = 0;
            const count = new MutationObserver(records => { changes += records.length; });
            const whole = {childList: true, characterData: true, subtree: true};
            for (const region of document.querySelectorAll("[role=status], [role=alert]")) count.observe(region, whole);
            const {VoiceSocket} = await import("./static/voice-client.js");
            const other = new VoiceSocket({pollMs: 100});
            let answers = 0;
            await new Promise(done => {
                other.on("available_streams", () => ++answers === 30 && done());
                other.open();
            });
            other.close();
            return changes;
        }"""
    )
    assert changes == 0


HIGH_CONTRAST = """() => {
    const style = (selector, pseudo) => getComputedStyle(document.querySelector(selector), pseudo).backgroundColor;
    return {
        switches: [style(".switch :checked"), style(".switch input:not(:checked)")],
        tabs: [style("nav a[aria-current]"), style("nav a:not([aria-current])")],
        round: [style(".round"), style("button:not(.round)")],
        meter: [style("#meter", "::before"), style("#meter")],
    };
}"""


async def test_states_are_seen_in_high_contrast(guests: Visitors) -> None:
    page = await sender_live(guests)
    await page.emulate_media(forced_colors="active")
    await page.uncheck("#echoCancellation")
    for part, (on, off) in (await page.evaluate(HIGH_CONTRAST)).items():
        assert on != off, part
