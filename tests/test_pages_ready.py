"""The talk page between presses: what it keeps, what it sends, how it comes back; in Chromium on the real daemon."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.voice_pages import Visitors, hears_sound, press, press_key, says, stop_time, talk, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

TEN_MINUTES_MS = 600_000
# Of the page's only connection.
PACKETS_SENT = """
async () => {
    for (const report of (await peers[0].getStats()).values())
        if (report.type === "outbound-rtp") return report.packetsSent;
    return 0;
}
"""
# For `Visitors.page`: the handlers of the device's own controls are `actions`.
WATCH_ACTIONS = """
() => {
    window.actions = {};
    const set = MediaSession.prototype.setActionHandler;
    MediaSession.prototype.setActionHandler = function (action, handler) {
        actions[action] = handler;
        set.call(this, action, handler);
    };
}
"""
COUNT_BEEPS = """
() => {
    window.beeps = 0;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function () {
        beeps += 1;
        start.call(this);
    };
}
"""


async def get_ready(page: Page, name: str = "") -> None:
    await page.fill("#name", name)
    await page.click("#arm")
    await says(page, "^Ready")


async def states(page: Page) -> tuple[list[str], list[str]]:
    """Those of all microphones and connections that the page has opened."""
    microphones = await page.evaluate("microphones.map(({track}) => track.readyState)")
    return microphones, await page.evaluate("peers.map(peer => peer.connectionState)")


async def sends_nothing(page: Page) -> None:
    """Waits until nothing has been sent for half a second, in which a voice is 25 packets.

    A busy browser encodes what it has heard before after it has said that it is ready.
    """
    sent = await page.evaluate(PACKETS_SENT)
    async with asyncio.timeout(10):
        while True:
            await page.wait_for_timeout(500)
            before, sent = sent, await page.evaluate(PACKETS_SENT)
            if sent == before:
                return


async def test_presses_use_one_connection_and_one_microphone(guests: Visitors) -> None:
    page, receiver = await guests.page("/sender"), await guests.page("/receiver")
    await get_ready(page, "kitchen")
    await press(receiver, "#listen")
    await says(receiver, "^Waiting")
    await sends_nothing(page)
    for _ in range(5):
        await talk(page, "kitchen")
        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        await says(page, "1 receiver$", "#facts")
        await press(page, "#talk")
        await says(page, "^Ready")
        await says(receiver, "^The voice ended")
        await sends_nothing(page)
    assert await states(page) == (["live"], ["connected"])


async def test_twenty_quick_presses_leave_it_ready_and_able_to_talk(guests: Visitors) -> None:
    page, receiver = await guests.page("/sender"), await guests.page("/receiver")
    await get_ready(page, "kitchen")
    await press(receiver, "#listen")
    await page.fill("#hold-on", "0")
    await page.focus("#talk")
    for _ in range(20):
        await press_key(page, "Space")
        await press_key(page, "Space")
    await says(page, "^Ready")
    await sends_nothing(page)
    await press_key(page, "Space")
    await says(page, "^Live as “kitchen”$")
    await says(receiver, "^You hear “kitchen”$")
    await hears_sound(receiver)
    assert await states(page) == (["live"], ["connected"])


async def test_two_who_press_over_each_other_are_told(guests: Visitors) -> None:
    attic, kitchen = await guests.page("/sender"), await guests.page("/sender")
    await get_ready(attic, "attic")
    await get_ready(kitchen, "kitchen")
    await talk(attic, "attic")
    await says(kitchen, "^“attic” is talking$", "#others")
    await talk(kitchen, "kitchen")
    await says(attic, "^“kitchen” talks now: whoever follows the newest voice hears it instead$", "#others")
    await expect(kitchen.locator("#others")).to_be_hidden()
    await press(kitchen, "#talk")
    await says(kitchen, "^“attic” is talking$", "#others")
    await expect(attic.locator("#others")).to_be_hidden()
    await says(attic, "^Live as “attic”$")


async def test_it_is_ready_again_on_the_next_visit_unless_that_is_switched_off(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await talk(page, "kitchen")
    await page.reload()
    await says(page, "^Ready")
    await page.uncheck("#stays-ready")
    await says(page, "^Off")
    assert await states(page) == (["ended"], ["closed"])
    await page.reload()
    await says(page, "^Connected$", "#connection")
    await talk(page, "kitchen")
    await press(page, "#talk")
    await says(page, "^Off")
    assert await page.evaluate("microphones.length") == 1


async def test_who_gets_ready_by_itself_asks_nothing_where_the_name_is_in_use(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await page.fill("#name", "kitchen")
    await page.press("#name", "Tab")
    await talk(page, "kitchen")
    await page.goto("about:blank")
    other = await guests.page("/sender")
    await talk(other, "kitchen")
    await page.goto(guests.server.url("/sender"))
    await says(page, "in use", "#problem")
    await expect(page.locator("#taken")).to_be_hidden()
    await press(page, "#talk")
    await says(page, "^“kitchen” is in use: take over\\?$", "#taken-question")


async def test_another_name_is_taken_while_it_is_ready(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page, "kitchen")
    await page.fill("#name", "attic")
    await press(page, "#talk")
    await says(page, "^Live as “attic”$")
    assert await states(page) == (["live"], ["closed", "connected"])


async def test_a_microphone_that_is_taken_away_is_replaced_or_said_to_be_gone(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page)
    ends = "() => microphones.at(-1).track.dispatchEvent(new Event('ended'))"
    await page.evaluate(ends)
    await page.wait_for_function("() => microphones.length === 2")
    await says(page, "^Ready")
    await talk(page)
    await press(page, "#talk")
    await says(page, "^Ready")
    await page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }; }"
    )
    await page.evaluate(ends)
    await says(page, "^The microphone was unplugged", "#problem")
    await says(page, "^Off")


async def test_ten_minutes_without_a_press_release_the_microphone(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page)
    await talk(page)
    await stop_time(page)
    await page.click("#talk")
    await page.clock.run_for(250)
    await expect(page.locator("#state")).to_contain_text("Ready")
    await page.clock.fast_forward(TEN_MINUTES_MS)
    await expect(page.locator("#problem")).to_contain_text("Nobody pressed for 10 minutes")
    await expect(page.locator("#state")).to_contain_text("Off")
    assert (await states(page))[0] == ["ended"]
    await page.click("#arm")
    await expect(page.locator("#state")).to_contain_text("Ready")
    await expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pressed", [False, True])
async def test_a_restart_of_the_server_keeps_the_microphone(pages_browser: Browser, pressed: bool) -> None:
    ports = free_port(), free_port()
    async with running_server(ports=ports) as server:
        guests = visitors(pages_browser, server)
        visiting = await guests.__aenter__()
        page = await visiting.page("/sender")
        await get_ready(page, "kitchen")
        if pressed:
            await talk(page, "kitchen")
    await says(page, "^Coming back…$")
    async with running_server(ports=ports):
        await says(page, "^Live as “kitchen”$" if pressed else "^Ready")
        assert (await states(page))[0] == ["live"]
        await press(page, "#talk")
        await says(page, "^Ready" if pressed else "^Live as “kitchen”$")
        await guests.__aexit__(None, None, None)


async def test_a_press_while_the_server_is_away_talks_when_it_is_back(pages_browser: Browser) -> None:
    ports = free_port(), free_port()
    async with running_server(ports=ports) as server:
        guests = visitors(pages_browser, server)
        page = await (await guests.__aenter__()).page("/sender")
        await get_ready(page, "kitchen")
    await says(page, "^Coming back…$")
    await press(page, "#talk")
    await expect(page.locator("#talk-label")).to_have_text("Stop")
    async with running_server(ports=ports):
        await says(page, "^Live as “kitchen”$")
        await guests.__aexit__(None, None, None)


async def test_a_tab_that_was_frozen_talks_again(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page, "kitchen")
    session = await page.context.new_cdp_session(page)
    for state in ("frozen", "active"):
        await session.send("Page.setWebLifecycleState", {"state": state})
    await talk(page, "kitchen")
    assert (await states(page))[0] == ["live"]


async def test_a_key_of_ones_choice_talks_except_in_fields(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page)
    await page.click("#key")
    await expect(page.locator("#key")).to_have_text("Press the key now…")
    await page.keyboard.press("t")
    await expect(page.locator("#key")).to_have_text("KeyT")
    await says(page, "^Ready")
    await page.uncheck("#echoCancellation")
    await press_key(page, "t")
    await says(page, "^Live as")
    await page.keyboard.down("t")
    await page.keyboard.down("t")
    await page.keyboard.up("t")
    await says(page, "^Ready")
    await page.focus("#name")
    await page.keyboard.type("test")
    await page.keyboard.press("Control+t")
    assert await page.input_value("#name") == "test"
    await expect(page.locator("#talk-label")).to_have_text("Talk")
    await page.reload()
    await expect(page.locator("#key")).to_have_text("KeyT")
    await page.click("#forget-key")
    await expect(page.locator("#key")).to_have_text("Choose…")
    await expect(page.locator("#forget-key")).to_be_hidden()


async def test_a_headsets_button_talks_while_the_page_is_ready(guests: Visitors) -> None:
    page = await guests.page("/sender", scripts=[WATCH_ACTIONS])
    assert not await page.evaluate("Object.values(actions).some(Boolean)")
    await get_ready(page)
    await page.evaluate("actions.play()")
    await says(page, "^Live as")
    assert await page.evaluate("navigator.mediaSession.playbackState") == "playing"
    await page.evaluate("actions.pause()")
    await says(page, "^Ready")
    assert await page.evaluate("navigator.mediaSession.playbackState") == "paused"
    await page.uncheck("#stays-ready")
    await says(page, "^Off")
    assert not await page.evaluate("Object.values(actions).some(Boolean)")


async def test_a_beep_says_that_one_is_live_where_that_is_wanted(guests: Visitors) -> None:
    page = await guests.page("/sender", scripts=[COUNT_BEEPS])
    await get_ready(page)
    await talk(page)
    await press(page, "#talk")
    await says(page, "^Ready")
    assert await page.evaluate("beeps") == 0
    await page.check("#beep")
    await talk(page)
    assert await page.evaluate("beeps") == 1


async def test_a_release_goes_on_for_as_long_as_was_chosen(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await get_ready(page)
    await page.fill("#hold-on", "1000")
    await page.press("#hold-on", "Tab")
    await talk(page)
    await stop_time(page)
    await page.click("#talk")
    await page.clock.run_for(999)
    await expect(page.locator("#state")).to_contain_text("Live as")
    await page.clock.run_for(1)
    await expect(page.locator("#state")).to_contain_text("Ready")
    await page.reload()
    assert await page.input_value("#hold-on") == "1000"
