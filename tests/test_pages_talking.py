"""The page that talks, as people use it, in Chromium, on the real daemon."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, WebSocketRoute, expect

from tests.support.server import running_server
from tests.support.voice_pages import (
    RELEASES_MICROPHONE,
    Visitors,
    hears_silence,
    hears_sound,
    listen,
    press,
    press_once_ready,
    says,
    stop_time,
    take_over,
    talk,
    visitors,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


HOLD_ON_MS = 250
"""How long a page's voice goes on after a release."""


async def tracks(page: Page) -> list[str]:
    """The state of each microphone that the page has opened; "ended" is released."""
    states: list[str] = await page.evaluate("microphones.map(({track}) => track.readyState)")
    return states


async def shows(page: Page, text: str, selector: str = "#state") -> None:
    """Wait until an element's text begins so; also while time stands still."""
    await expect(page.locator(selector)).to_have_text(re.compile(f"^{re.escape(text)}"), timeout=20_000)


async def test_one_press_talks_and_the_next_one_stops(guests: Visitors) -> None:
    page = await guests.page("/sender", scripts=[RELEASES_MICROPHONE])
    await shows(page, "Off – nobody hears you")
    await stop_time(page)
    await page.click("#talk")
    await shows(page, "Live as")
    await shows(page, "Stop", "#talk-label")
    assert await tracks(page) == ["live"]
    await page.clock.run_for(5_000)
    await shows(page, "00:00:05 · nobody listens yet", "#facts")
    async with asyncio.timeout(20):
        # Speech has pauses.
        while not await page.evaluate("Number(document.querySelector('#meter').ariaValueNow) > 20"):
            await page.clock.run_for(100)
    await page.click("#talk")
    await shows(page, "Talk", "#talk-label")
    await page.clock.run_for(HOLD_ON_MS)
    await shows(page, "Off")
    assert await tracks(page) == ["ended"]
    await expect(page.locator("#on-air")).to_be_hidden()


async def test_holding_the_button_talks_while_it_lasts(guests: Visitors) -> None:
    page = await guests.page("/sender", scripts=[RELEASES_MICROPHONE])
    await page.hover("#talk")
    await stop_time(page)
    await page.mouse.down()
    await shows(page, "Live as")
    await page.clock.run_for(500)
    await page.mouse.up()
    await page.clock.run_for(HOLD_ON_MS)
    await shows(page, "Off")
    assert await tracks(page) == ["ended"]


async def test_a_short_tap_on_a_busy_device_is_no_hold(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await page.evaluate(
        """async () => {
            const talk = document.querySelector("#talk");
            const [down, up] = ["pointerdown", "pointerup"].map(type => new PointerEvent(type, {bubbles: true}));
            talk.dispatchEvent(down);
            const isLive = () => document.querySelector("#state").textContent.startsWith("Live");
            while (!isLive()) await new Promise(resolve => setTimeout(resolve, 20));
            for (const begun = performance.now(); performance.now() - begun < 500; );
            talk.dispatchEvent(up);
        }"""
    )
    await shows(page, "Live as")


async def test_the_space_bar_does_both(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await stop_time(page)
    await page.keyboard.press("Space")
    await shows(page, "Live as")
    await page.keyboard.press("Space")
    await page.clock.run_for(HOLD_ON_MS)
    await shows(page, "Ready")
    await page.keyboard.down("Space")
    await shows(page, "Live as")
    await page.clock.run_for(500)
    await page.keyboard.up("Space")
    await page.clock.run_for(HOLD_ON_MS)
    await shows(page, "Ready")
    await page.focus("#name")
    await page.keyboard.type("living room")
    await shows(page, "Ready")
    assert await page.input_value("#name") == "living room"


async def test_a_name_that_is_typed_before_the_script_has_come_is_kept(guests: Visitors) -> None:
    page = await guests.page("/sender")
    may_come = asyncio.Event()

    async def slowly(route: Route) -> None:
        await may_come.wait()
        await route.continue_()

    await page.route("**/sender.js", slowly)
    await page.reload(wait_until="commit")
    await page.fill("#name", "kitchen")
    # Nor is a press lost: there is none before the script listens.
    await expect(page.locator("#talk")).to_be_disabled()
    may_come.set()
    await press_once_ready(page, "#talk")
    await shows(page, "Live as “kitchen”")


async def test_leaving_the_page_ends_the_stream_at_once(guests: Visitors) -> None:
    page = await guests.page("/sender", scripts=[RELEASES_MICROPHONE])
    receiver = await guests.page("/receiver")
    await talk(page, "kitchen")
    await listen(receiver, "kitchen")
    lines = len(guests.server.log)
    await page.goto("about:blank")
    await says(receiver, "^The voice ended")
    await page.go_back()
    await says(page, "^Off")
    await guests.server.process.wait_for_log("sender left", after=lines)


async def test_mute_sends_silence(guests: Visitors) -> None:
    page = await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await talk(page, "kitchen")
    await listen(receiver, "kitchen")
    await hears_sound(receiver)
    await page.click("#mute")
    await says(page, "^Muted")
    await hears_silence(receiver)
    await page.click("#mute")
    await says(page, "^Live as")
    await hears_sound(receiver)


async def test_microphone_and_processing_change_while_live(guests: Visitors) -> None:
    page = await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await talk(page, "kitchen")
    await listen(receiver, "kitchen")
    labels = await page.locator("#deviceId option").all_text_contents()
    assert labels[0] == "Default microphone"
    assert len(labels) > 2

    await page.select_option("#deviceId", index=2)
    await page.wait_for_function("() => microphones.length === 2 && microphones[0].track.readyState === 'ended'")
    chosen = await page.evaluate("microphones[1].track.getSettings().deviceId")
    assert chosen == await page.input_value("#deviceId")
    await hears_sound(receiver)

    await page.click("#noiseSuppression")
    await page.wait_for_function("() => microphones.length === 3 && microphones[1].track.readyState === 'ended'")
    wanted = await page.evaluate("microphones[2].wanted")
    assert wanted == {
        "channelCount": 1,
        "echoCancellation": True,
        "noiseSuppression": False,
        "autoGainControl": True,
        "deviceId": {"exact": chosen},
    }
    await hears_sound(receiver)
    assert await page.evaluate("peers.length") == 1
    assert await receiver.evaluate("peers.length") == 1

    await page.reload()
    assert not await page.is_checked("#noiseSuppression")
    assert await page.is_checked("#echoCancellation")
    await talk(page, "kitchen")
    assert await page.evaluate("microphones[0].track.getSettings().deviceId") == chosen
    assert await page.input_value("#deviceId") == chosen


async def test_the_name_is_remembered_and_checked(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await page.fill("#name", "kitchen/sink")
    await press(page, "#talk")
    await says(page, "^Off")
    assert await page.evaluate("document.querySelector('#name').matches(':invalid')")
    await page.fill("#name", "Küche 2")
    await page.press("#name", "Tab")
    await page.reload()
    assert await page.input_value("#name") == "Küche 2"
    await press(page, "#talk")
    await says(page, "^Live as “Küche 2”$")


async def test_who_takes_a_name_over_is_live_and_the_other_one_is_told(guests: Visitors) -> None:
    first, second = await guests.page("/sender"), await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await talk(first, "kitchen")
    await listen(receiver, "kitchen")
    await take_over(second, "kitchen")
    await says(first, "^Off")
    await says(first, "Somebody else talks under this name now", "#problem")
    assert await tracks(first) == ["ended"]
    await hears_sound(receiver)
    await says(second, "1 receiver$", "#facts")
    assert await receiver.evaluate("peers.length") == 1


async def test_a_name_in_use_is_asked_about_and_another_one_can_be_chosen(guests: Visitors) -> None:
    first, second = await guests.page("/sender"), await guests.page("/sender")
    await talk(first, "kitchen")
    await second.fill("#name", "kitchen")
    await second.focus("#talk")
    await second.keyboard.press("Enter")
    question = second.get_by_role("group", name="“kitchen” is in use: take over?")
    await expect(question).to_be_focused()
    await expect(second.locator("#problem")).to_be_hidden()
    await second.keyboard.press("Tab")
    await expect(second.get_by_role("button", name="Take over")).to_be_focused()
    await second.keyboard.press("Tab")
    await second.keyboard.press("Enter")
    await expect(question).to_be_hidden()
    await expect(second.locator("#name")).to_be_focused()
    await second.keyboard.type("attic")
    await press(second, "#talk")
    await says(second, "^Live as “attic”$")
    await says(first, "^Live as “kitchen”$")


async def test_where_no_name_may_be_taken_over_only_another_one_helps(pages_browser: Browser) -> None:
    settings = {"streams": {"name_taken": "never"}}
    async with running_server(settings) as server, visitors(pages_browser, server) as guests:
        first, second = await guests.page("/sender"), await guests.page("/sender")
        await talk(first, "kitchen")
        await second.fill("#name", "kitchen")
        await press(second, "#talk")
        await second.click("#take-over")
        await says(second, "^This name is in use and cannot be taken over. Choose another one.$", "#problem")
        await expect(second.locator("#taken")).to_be_hidden()
        await says(first, "^Live as “kitchen”$")


async def test_a_sender_whose_socket_is_lost_takes_its_own_name_back(guests: Visitors) -> None:
    """Its old connection is still there, as far as the server knows: nobody else could have the name without a word."""
    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        there = socket.connect_to_server()
        there.on_message(socket.send)
        socket.on_close(lambda code, reason: None)  # the server does not hear of it
        sockets.append(socket)

    page = await guests.page("/sender", sockets=between)
    receiver = await guests.page("/receiver")
    await talk(page, "kitchen")
    await listen(receiver, "kitchen")
    states = "new Promise(done => { window.states = []; new MutationObserver(() => states.push(state.textContent))"
    await page.evaluate(f"void {states}.observe(state, {{childList: true}}); }})")
    await sockets[0].close()
    await page.wait_for_function("() => peers.length === 2 && peers[1].connectionState === 'connected'")
    await says(page, "^Live as “kitchen”$")
    await hears_sound(receiver)
    assert await page.evaluate("states") == []
    assert await page.evaluate("peers[0].connectionState") == "closed"
    assert await receiver.evaluate("peers.length") == 1


async def test_a_changed_network_restarts_ice_and_the_voice_goes_on(guests: Visitors) -> None:
    page = await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await talk(page, "kitchen")
    await listen(receiver, "kitchen")
    await hears_sound(receiver)
    fragment = "() => /a=ice-ufrag:(.*)/.exec(peers[0].currentRemoteDescription.sdp)[1]"
    before = await page.evaluate(fragment)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.wait_for_function(f"before => ({fragment})() !== before", arg=before)
    await hears_sound(receiver)
    assert await page.evaluate("peers.map(peer => peer.connectionState)") == ["connected"]
    await says(page, "^Live as “kitchen”$")


async def test_an_intercom_hears_the_others_and_not_itself(guests: Visitors) -> None:
    attic, kitchen = await guests.page("/sender"), await guests.page("/sender")
    await attic.check("#intercom")
    await kitchen.check("#intercom")
    await says(attic, "^Nobody else is talking$", "#intercom-state")
    await talk(attic, "attic")
    await says(kitchen, "^You hear “attic”$", "#intercom-state")
    await says(attic, "^Nobody else is talking$", "#intercom-state")
    await talk(kitchen, "kitchen")
    await says(attic, "^You hear “kitchen”$", "#intercom-state")
    await says(kitchen, "^You hear “attic”$", "#intercom-state")
    await hears_sound(attic)
    await attic.click("#mute")
    await hears_silence(kitchen)
