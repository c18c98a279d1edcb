"""A sender that is lost for a moment: its stream waits, and its receivers keep what they have."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, WebSocketRoute

from tests.support.chromium import chromium
from tests.support.server import running_server
from tests.support.voice_pages import hears_silence, hears_sound, listen, says, stop_time, talk, visitors

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SETTINGS = {"webrtc": {"media_timeout_s": 2, "resume_grace_s": 40}}


def is_ours(process: int) -> bool:
    """Whether this process started it, or one that did: no other one may ever be stopped."""
    while process > 1 and process != os.getpid():
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return False
        process = int(fields[1])
    return process > 1


async def page_processes(browser: Browser) -> list[int]:
    """The processes that run pages, WebRTC included."""
    session = await browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    found = [process["id"] for process in processes if process["type"] == "renderer" and is_ours(process["id"])]
    assert found
    return found


@contextmanager
def asleep(processes: list[int]) -> Iterator[None]:
    """They stand still while the block runs, as everything does on a laptop that is closed."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


async def test_a_sender_that_slept_goes_on_and_its_receivers_keep_their_connection(speech_wav: Path) -> None:
    async with (
        running_server(SETTINGS) as server,
        chromium(microphone=speech_wav) as laptop,
        chromium() as tablet,
        visitors(laptop, server) as talking,
        visitors(tablet, server) as listening,
    ):
        sender = await talking.page("/sender")
        await talk(sender, "kitchen")
        receiver = await listening.page("/receiver")
        await listen(receiver, "kitchen")
        await hears_sound(receiver)

        with asleep(await page_processes(laptop)):
            await says(receiver, "^“kitchen” is silent for now…$")
            await hears_silence(receiver)

        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        await says(sender, "^Live as “kitchen”$")
        assert await receiver.evaluate("peers.map(peer => peer.connectionState)") == ["connected"]
        # Its connection goes on where it woke up before the server asked in vain for consent; else it has made another.
        states = await sender.evaluate("peers.map(peer => peer.connectionState)")
        assert states == ["closed"] * (len(states) - 1) + ["connected"]
        assert await sender.evaluate("microphones.length") == 1
        assert not any("ended" in line for line in server.log)


async def test_stopping_while_the_page_comes_back_ends_the_stream(speech_wav: Path) -> None:
    """The page's clock stands still, so that it is coming back until it is told to stop."""
    to_page: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        there = socket.connect_to_server()
        there.on_message(socket.send)
        to_page.append(socket)

    async with (
        running_server() as server,
        chromium(microphone=speech_wav) as browser,
        visitors(browser, server) as guests,
    ):
        sender = await guests.page("/sender", sockets=between)
        await talk(sender, "kitchen")
        receiver = await guests.page("/receiver")
        await listen(receiver, "kitchen")
        await stop_time(sender)
        # What the server says when it misses the voice; by itself, it would do so at a time of its own choice.
        to_page[-1].send(json.dumps({"type": "error", "code": "connection_lost", "message": "no packets come"}))
        await sender.locator("#state", has_text="Coming back").wait_for()
        await says(receiver, "^“kitchen” is silent for now…$")
        await sender.keyboard.press("Space")
        await says(receiver, "^The voice ended. Waiting for the next voice…$")
