"""The pages as people use them, in Chromium, on the real daemon.

Firefox, what is refused, senders that are lost for a moment, and accessibility have files of their own. What is heard
is measured at a receiver: by the browser's account of what it plays, or from a recording.
"""

from __future__ import annotations

import asyncio
import io
import re
import signal

import av
import pytest
import zxingcpp
from playwright.async_api import Browser, Page, Route, WebSocketRoute, expect

from tests.support.server import running_server
from tests.support.voice_pages import (
    INSECURE_NAME,
    Visitors,
    hears_silence,
    hears_sound,
    listen,
    plays_sound,
    press,
    says,
    stop_time,
    take_over,
    talk,
    visitors,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

WEBRTC_BLOCKED = """
() => {
    const Peer = RTCPeerConnection;
    window.RTCPeerConnection = class extends Peer {
        constructor(configuration) {
            super({...configuration, iceTransportPolicy: "relay"});
        }
    };
}
"""
NO_SOCKETS = """
() => {
    window.WebSocket = class {
        constructor() { setTimeout(() => this.onclose?.(), 10); }
        close() {}
    };
}
"""
SPECTRUM = "Array.from(document.querySelectorAll('#spectrum i'), bar => +bar.style.getPropertyValue('--level'))"
VOICE_IN_SPECTRUM = f"() => {{ const bars = {SPECTRUM}; return bars.length > 20 && Math.max(...bars) > 0.3; }}"


async def tracks(page: Page) -> list[str]:
    """The state of each microphone that the page has opened; "ended" is released."""
    states: list[str] = await page.evaluate("microphones.map(({track}) => track.readyState)")
    return states


async def shows(page: Page, text: str, selector: str = "#state") -> None:
    """Wait until an element's text begins so; also while time stands still."""
    await expect(page.locator(selector)).to_have_text(re.compile(f"^{re.escape(text)}"), timeout=20_000)


# Talking


async def test_one_press_talks_and_the_next_one_stops(guests: Visitors) -> None:
    page = await guests.page("/sender")
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
    await shows(page, "Off")
    assert await tracks(page) == ["ended"]
    await expect(page.locator("#on-air")).to_be_hidden()


async def test_holding_the_button_talks_while_it_lasts(guests: Visitors) -> None:
    page = await guests.page("/sender")
    await page.hover("#talk")
    await stop_time(page)
    await page.mouse.down()
    await shows(page, "Live as")
    await page.clock.run_for(500)
    await page.mouse.up()
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
    await shows(page, "Off")
    await page.keyboard.down("Space")
    await shows(page, "Live as")
    await page.clock.run_for(500)
    await page.keyboard.up("Space")
    await shows(page, "Off")
    await page.focus("#name")
    await page.keyboard.type("living room")
    await shows(page, "Off")
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
    may_come.set()
    await page.wait_for_load_state()
    await page.click("#talk")
    await shows(page, "Live as “kitchen”")


async def test_leaving_the_page_ends_the_stream_at_once(guests: Visitors) -> None:
    page = await guests.page("/sender")
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


# Listening


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


async def test_the_player_page_waits_plays_and_waits_again(guests: Visitors) -> None:
    player = await guests.page("", url=guests.server.audio_url("/stream/latest.mp3"))
    await says(player, "^Nobody is talking yet$")
    await player.click("#start")
    await says(player, "^Nobody is talking now$")
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    await says(player, "^You hear “kitchen”$")
    assert await player.title() == "kitchen · Voice"
    await hears_sound(player)
    await says(player, "ms behind the server, measured$", "#hint")
    await says(sender, "1 receiver$", "#facts")
    await press(sender, "#talk")
    await says(player, "^Nobody is talking now$")
    await player.click("#start")
    await says(player, "^Nobody is talking yet$")
    assert await player.title() == "Waiting for a voice"


async def test_the_player_page_starts_the_mp3_anew_when_it_got_late(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    player = await guests.page("", url=guests.server.audio_url("/stream/KITCHEN.mp3"), scripts=[WEBRTC_BLOCKED])
    await says(player, "^A voice is live$")
    await player.click("#start")
    await says(player, "behind live, measured$", "#hint")
    await says(player, "^You hear “kitchen”$")
    source = await player.evaluate("player.src")
    await player.evaluate("player.pause()")
    await says(player, "^Paused by this device")
    await player.evaluate("player.play()")
    await player.wait_for_function("source => player.src !== source", arg=source)
    await says(player, "^You hear “kitchen”$")
    await says(player, r"^[0-5]\.\d s behind live, measured$", "#hint")


async def test_the_player_page_plays_the_mp3_where_signalling_does_not_get_through(guests: Visitors) -> None:
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    player = await guests.page("/stream/latest.mp3", scripts=[NO_SOCKETS])
    await says(player, "^A voice is live$")
    await player.click("#start")
    await says(player, "^You hear the live voice$")
    await player.evaluate("player.id = 'player'; document.body.append(player)")
    await plays_sound(player, "#player")
    await says(sender, "1 MP3 listener", "#facts")


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


# Both


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


async def test_the_overview_keeps_itself_up_to_date(guests: Visitors) -> None:
    overview = await guests.page("/")
    await expect(overview.locator("#empty")).to_be_visible()
    sender = await guests.page("/sender")
    await talk(sender, "kitchen")
    card = overview.locator("#streams li", has_text="kitchen")
    await expect(card).to_contain_text("nobody listens yet")
    await expect(overview.locator("#empty")).to_be_hidden()
    await overview.wait_for_function("() => +document.querySelector('.meter').style.getPropertyValue('--level') > 0.3")
    await card.get_by_role("button", name="Listen").click()
    await expect(card.get_by_role("status")).to_have_text("You hear this voice.")
    await hears_sound(overview)
    await expect(card).to_contain_text("1 receiver")
    await card.get_by_role("button", name="Copy").click()
    await expect(card.get_by_role("button", name="Copied")).to_be_visible()
    await card.get_by_role("button", name="Stop").click()
    await expect(card).to_contain_text("nobody listens yet")
    await press(sender, "#talk")
    await expect(overview.locator("#empty")).to_be_visible()
    await expect(card).to_have_count(0)


async def test_the_overview_of_a_server_that_is_away_does_not_say_that_nobody_talks(pages_browser: Browser) -> None:
    async with running_server() as server, visitors(pages_browser, server) as guests:
        page = await guests.page("/")
        await expect(page.locator("#empty")).to_be_visible()
        await server.stop()
        await says(page, "^The server does not answer", "#server-problem")
        await expect(page.locator("#empty")).to_be_hidden()


async def test_addresses_for_players_are_the_audio_ports_and_play(guests: Visitors) -> None:
    overview = await guests.page("/")
    latest = guests.server.audio_url("/stream/latest.mp3")
    await says(overview, f"^{re.escape(latest)}$", "#latest")
