"""The overview of who talks, and the page at a stream's own address, in Chromium, on the real daemon."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.support.server import running_server
from tests.support.voice_pages import (
    WEBRTC_BLOCKED,
    Visitors,
    hears_sound,
    plays_sound,
    press,
    says,
    talk,
    visitors,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

NO_SOCKETS = """
() => {
    window.WebSocket = class {
        constructor() { setTimeout(() => this.onclose?.(), 10); }
        close() {}
    };
}
"""


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
