"""The page that listens, as people use it, in Chromium, on the real daemon.

What is heard is measured at a receiver: by the browser's account of what it plays, or from a recording.
"""

from __future__ import annotations

import io
import json
import signal

import av
import pytest
import zxingcpp
from playwright.async_api import Browser, Page, Route, WebSocketRoute, expect

from tests.support.server import running_server
from tests.support.voice_pages import (
    INSECURE_NAME,
    WEBRTC_BLOCKED,
    Visitors,
    hears_sound,
    listen,
    plays_sound,
    press,
    says,
    talk,
    visitors,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

SPECTRUM = "Array.from(document.querySelectorAll('#spectrum i'), bar => +bar.style.getPropertyValue('--level'))"
VOICE_IN_SPECTRUM = f"() => {{ const bars = {SPECTRUM}; return bars.length > 20 && Math.max(...bars) > 0.3; }}"


async def test_what_is_heard_goes_on_while_the_page_is_offline(pages_browser: Browser) -> None:
    """Only signalling is: media has another way. The server closes what belongs to a socket that it misses."""
    settings = {"server": {"heartbeat_s": 60}}
    async with running_server(settings) as server, visitors(pages_browser, server) as guests:
        sender = await guests.page("/sender")
        await talk(sender, "kitchen")
        sockets: list[WebSocketRoute] = []

        def between(socket: WebSocketRoute) -> None:
            there = socket.connect_to_server()
            there.on_message(socket.send)
            socket.on_close(lambda code, reason: None)
            sockets.append(socket)

        receiver = await guests.page("/receiver", sockets=between)
        await listen(receiver, "kitchen")
        await receiver.context.set_offline(True)
        await sockets[0].close()
        await says(receiver, "^Offline$", "#connection")
        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        assert await receiver.evaluate("peers.length") == 1
        await receiver.context.set_offline(False)
        await receiver.wait_for_function("() => peers.length === 2 && peers[0].connectionState === 'closed'")
        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        await receiver.wait_for_function(VOICE_IN_SPECTRUM)


async def test_the_newest_voice_plays_and_a_chosen_one_stays(guests: Visitors) -> None:
    attic, kitchen = await guests.page("/sender"), await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await press(receiver, "#listen")
    await says(receiver, "^Waiting for the next voice…$")
    await talk(attic, "attic")
    await says(receiver, "^You hear “attic”$")
    await talk(kitchen, "kitchen")
    await says(receiver, "^You hear “kitchen”$")
    await hears_sound(receiver)
    await press(kitchen, "#talk")
    await says(receiver, "^You hear “attic”$")

    await receiver.select_option("#choice", "attic")
    await talk(kitchen, "kitchen")
    await says(receiver, "kitchen", "#choice")
    await press(attic, "#talk")
    await says(receiver, "^The voice ended. Waiting for “attic”…$")
    await talk(attic, "attic")
    await says(receiver, "^You hear “attic”$")
    await hears_sound(receiver)
    await receiver.select_option("#choice", "kitchen")
    await says(receiver, "^You hear “kitchen”$")
    await hears_sound(receiver)


async def one_connection(receiver: Page) -> None:
    """Wait until the page is connected; it has never opened another connection."""
    await receiver.wait_for_function("() => peers.some(peer => peer.connectionState === 'connected')")
    assert await receiver.evaluate("peers.length") == 1


async def test_a_page_that_waits_is_connected_before_anybody_talks_and_stays_so(guests: Visitors) -> None:
    receiver, sender = await guests.page("/receiver"), await guests.page("/sender")
    await press(receiver, "#listen")
    await one_connection(receiver)
    await says(receiver, "^Waiting for the next voice…$")
    for _ in range(3):
        await talk(sender, "kitchen")
        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        await press(sender, "#talk")
        await says(receiver, "^The voice ended. Waiting for the next voice…$")
    await one_connection(receiver)
    await press(receiver, "#listen")
    await says(receiver, "^Off$")
    assert await receiver.evaluate("peers[0].connectionState") == "closed"


async def test_one_connection_brings_one_talker_after_the_other_and_the_page_says_who_took_over(
    guests: Visitors,
) -> None:
    attic, kitchen = await guests.page("/sender"), await guests.page("/sender")
    receiver = await guests.page("/receiver")
    await talk(attic, "attic")
    await listen(receiver, "attic")
    for _ in range(2):
        await talk(kitchen, "kitchen")
        await says(receiver, "^You hear “kitchen”$")
        await says(receiver, "^“kitchen” talks now, after “attic”$", "#turn")
        await hears_sound(receiver)
        await press(kitchen, "#talk")
        await says(receiver, "^You hear “attic”$")
        await expect(receiver.locator("#turn")).to_be_hidden()
        await hears_sound(receiver)
    await one_connection(receiver)


async def test_a_chosen_stream_that_comes_later_is_heard_by_the_connection_that_waits(guests: Visitors) -> None:
    receiver = await guests.page("/receiver?stream=kitchen")
    attic, kitchen = await guests.page("/sender"), await guests.page("/sender")
    await talk(attic, "attic")
    await press(receiver, "#listen")
    await one_connection(receiver)
    await says(receiver, "^Waiting for “kitchen”…$")
    await talk(kitchen, "kitchen")
    await says(receiver, "^You hear “kitchen”$")
    await hears_sound(receiver)
    await one_connection(receiver)


async def test_an_intercom_without_a_name_is_not_fed_its_own_voice(guests: Visitors) -> None:
    fed: list[str | None] = []

    def note(socket: WebSocketRoute) -> None:
        there = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if '"receiving"' in str(message):
                fed.append(json.loads(message)["stream_id"])
            socket.send(message)

        there.on_message(pass_on)

    attic, nameless = await guests.page("/sender"), await guests.page("/sender", sockets=note)
    await nameless.check("#intercom")
    await says(nameless, "^Nobody else is talking$", "#intercom-state")
    await talk(nameless)
    await talk(attic, "attic")
    await says(nameless, "^You hear “attic”$", "#intercom-state")
    connections = await nameless.evaluate("peers.length")
    await press(nameless, "#talk")
    await talk(nameless)
    await says(nameless, "^You hear “attic”$", "#intercom-state")
    await hears_sound(nameless)
    assert set(fed) == {None, "attic"}
    # One to talk and one to listen, which stay; at first perhaps one that its own voice was not excluded from yet.
    assert connections in (2, 3)
    assert await nameless.evaluate("peers.length") == connections


async def test_the_servers_picture_of_the_voice_is_drawn(guests: Visitors) -> None:
    pictures: list[str] = []

    def watch(socket: WebSocketRoute) -> None:
        there = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            pictures.append(str(message))
            socket.send(message)

        there.on_message(pass_on)

    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    receiver = await guests.page("/receiver", sockets=watch)
    await listen(receiver, "kitchen")
    await receiver.wait_for_function(VOICE_IN_SPECTRUM)
    assert any('"audio_data"' in message for message in pictures)
    await says(receiver, r"^\d+ ms behind the server, measured$", "#delay")
    await press(receiver, "#listen")
    await says(receiver, "^Off$")
    assert await receiver.is_hidden("#spectrum")


async def test_without_the_servers_picture_the_browser_makes_its_own(guests: Visitors) -> None:
    def keep_pictures(socket: WebSocketRoute) -> None:
        there = socket.connect_to_server()
        there.on_message(lambda message: None if '"audio_data"' in str(message) else socket.send(message))

    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    receiver = await guests.page("/receiver", sockets=keep_pictures)
    await listen(receiver, "kitchen")
    await receiver.wait_for_function(VOICE_IN_SPECTRUM)


async def test_where_webrtc_is_blocked_the_mp3_plays_and_the_page_says_so(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    receiver = await guests.page("/receiver", scripts=[WEBRTC_BLOCKED])
    await listen(receiver, "kitchen")
    await says(receiver, "WebRTC does not get through here: this is the MP3 stream", "#route")
    await says(receiver, r"^\d\.\d s behind live, measured$", "#delay")
    await receiver.evaluate("player.id = 'player'; document.body.append(player)")
    await plays_sound(receiver, "#player")
    await says(sender, "1 MP3 listener", "#facts")
    await press(sender, "#talk")
    await says(receiver, "^The voice ended")
    await talk(sender, "attic")
    await says(receiver, "^You hear “attic”$")


async def test_the_volume_is_the_players_and_is_remembered(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    receiver = await guests.page("/receiver")
    await receiver.fill("#volume", "30")
    await listen(receiver, "kitchen")
    assert await receiver.evaluate("player.volume") == pytest.approx(0.3)
    await receiver.reload()
    assert await receiver.input_value("#volume") == "30"
    # It was listening before, and goes on by itself.
    await says(receiver, "^You hear “kitchen”$")


async def test_what_cannot_be_heard_is_not_said_to_be_heard(pages_browser: Browser) -> None:
    async with running_server() as server, visitors(pages_browser, server) as guests:
        sender = await guests.page("/sender")
        await talk(sender, "kitchen")
        receiver = await guests.page("/receiver")
        await listen(receiver, "kitchen")
        await receiver.fill("#volume", "0")
        await says(receiver, "^“kitchen” plays at volume 0$")
        await receiver.fill("#volume", "50")
        await says(receiver, "^You hear “kitchen”$")
        server.process.send_signal(signal.SIGSTOP)
        try:
            await says(receiver, "^No sound arrives from “kitchen”")
        finally:
            server.process.send_signal(signal.SIGCONT)
        await says(receiver, "^You hear “kitchen”$")


async def test_without_locks_of_the_screen_the_switch_is_off(guests: Visitors) -> None:
    page = await guests.page("", url=f"http://{INSECURE_NAME}:{guests.server.port}/receiver")
    await expect(page.locator("#awake")).to_be_disabled()
    await expect(page.locator("#awake")).not_to_be_checked()
    await expect(page.locator("#awake-help")).to_be_visible()


async def test_the_address_of_the_listen_page_names_the_stream(guests: Visitors) -> None:
    page = await guests.page("/receiver?stream=KITCHEN")
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    await says(page, "kitchen", "#choice")
    await listen(page, "kitchen")
    await page.click("#share summary")
    await says(page, r"/receiver\?stream=KITCHEN$", "#address")
    await page.wait_for_function("() => document.querySelector('#address-code').naturalWidth > 50")
    picture = await page.locator("#address-code").screenshot()
    with av.open(io.BytesIO(picture), "r") as file:
        pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert [code.text for code in zxingcpp.read_barcodes(pixels)] == [page.url]
    await page.click("#copy-address")
    await says(page, "^Copied$", "#copy-address")
    await page.select_option("#choice", "")
    assert "stream" not in page.url
    await page.reload()
    assert await page.input_value("#choice") == ""


async def test_a_second_tab_says_that_the_first_one_listens_and_takes_over(guests: Visitors) -> None:
    await talk(await guests.page("/sender"), "kitchen")
    first = await guests.page("/receiver")
    await listen(first, "kitchen")
    second = await first.context.new_page()
    await second.goto(guests.server.url("/receiver"))
    # It would have gone on by itself, as the browser was listening.
    await expect(
        second.get_by_role("alert").filter(has_text="Another tab of this browser listens already")
    ).to_be_visible()
    await says(second, "^Off$")
    await second.click("#listen-here")
    await says(second, "^You hear “kitchen”$")
    await says(first, "^Off$")
    await expect(first.locator("#other-tab")).to_be_visible()
    await press(first, "#listen-here")
    await says(first, "^You hear “kitchen”$")
    await says(second, "^Off$")


async def test_a_page_older_than_the_server_reloads_when_nothing_plays(guests: Visitors) -> None:
    version = "1"

    async def health(route: Route) -> None:
        await route.fulfill(json={"version": version})

    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page = await guests.page("/receiver", sockets=between)
    await page.route("**/health*", health)
    await page.reload()
    await press(page, "#listen")
    await says(page, "^Waiting")
    await page.evaluate("window.isOld = true")
    version = "2"
    async with page.expect_response("**/health*"):
        await sockets[-1].close()
    await says(page, "^Connected$", "#connection")
    assert await page.evaluate("window.isOld")
    await press(page, "#listen")
    await page.wait_for_function("() => !window.isOld")
    await says(page, "^Off$")


@pytest.mark.parametrize(("width", "height", "query"), [(844, 390, ""), (320, 256, ""), (260, 220, "?compact")])
async def test_button_and_state_are_on_one_screen(width: int, height: int, query: str, guests: Visitors) -> None:
    """On a phone on its side, on a desk enlarged four times, and in a small card."""
    for path in ("/sender", "/receiver"):
        page = await guests.page(path + query)
        await page.set_viewport_size({"width": width, "height": height})
        await says(page, "^Off")
        for selector in (".round", "#state"):
            box = await page.locator(selector).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height, (path, selector, box)
