"""A sender that is lost for a moment: its stream waits, and its receivers keep what they have."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.chromium import chromium
from tests.support.server import running_server
from tests.support.voice_pages import hears_silence, hears_sound, listen, says, talk, visitors

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
            await says(receiver, "^“kitchen” is gone for a moment…$")
            await hears_silence(receiver)

        await says(receiver, "^You hear “kitchen”$")
        await hears_sound(receiver)
        await says(sender, "^Live as “kitchen”$")
        assert await receiver.evaluate("peers.map(peer => peer.connectionState)") == ["connected"]
        assert await sender.evaluate("peers.map(peer => peer.connectionState)") == ["closed", "connected"]
        assert await sender.evaluate("microphones.length") == 1
        assert not any("ended" in line for line in server.log)


async def test_stopping_while_the_page_comes_back_ends_the_stream(speech_wav: Path) -> None:
    async with (
        running_server(SETTINGS) as server,
        chromium(microphone=speech_wav) as browser,
        visitors(browser, server) as guests,
    ):
        sender = await guests.page("/sender")
        await talk(sender, "kitchen")
        receiver = await guests.page("/receiver")
        await listen(receiver, "kitchen")
        await sender.clock.install()
        await sender.clock.pause_at(await sender.evaluate("Date.now() + 1000"))
        # The browser goes on sending checks, but no voice: the server notices after `media_timeout_s`.
        await sender.evaluate("peers[0].getSenders()[0].replaceTrack(null)")
        await sender.locator("#state", has_text="Coming back").wait_for()
        await says(receiver, "^“kitchen” is gone for a moment…$")
        await sender.keyboard.press("Space")
        await says(receiver, "^The voice ended. Waiting for the next voice…$")
