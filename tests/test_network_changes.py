"""A browser whose network changes while it talks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page

from tests.support.chromium import chromium
from tests.support.namespaces import OtherMachine, other_machine
from tests.support.rtc_client import VoiceReceiver, voice_receiver
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HEARD_WITHIN_S = 1.0

SENDER = """() => {
    const context = new AudioContext(), oscillator = context.createOscillator();
    const end = context.createMediaStreamDestination();
    oscillator.connect(end);
    oscillator.start();
    window.pc = new RTCPeerConnection();
    pc.addTrack(end.stream.getAudioTracks()[0]);
    window.talk = async (claim) => {
        const socket = new WebSocket(`ws://${location.host}/ws`);
        const said = (type) => new Promise((resolve) => socket.addEventListener("message", ({data}) => {
            const message = JSON.parse(data);
            if (message.type === type) resolve(message);
        }));
        await new Promise((resolve) => (socket.onopen = resolve));
        const send = (message) => socket.send(JSON.stringify(message));
        const ready = said("sender_ready");
        send({type: "start_sending", name: "kitchen", ...claim});
        window.key = (await ready).resume;
        await pc.setLocalDescription();
        while (pc.iceGatheringState !== "complete") await new Promise((resolve) => setTimeout(resolve, 5));
        const answered = said("webrtc_answer");
        send({type: "webrtc_offer", offer: pc.localDescription});
        await pc.setRemoteDescription((await answered).answer);
    };
    return talk({});
}"""
"""A page without a microphone, which sends a tone: `talk` says over a new socket what `pc` is now."""

RESTART = """() => {
    pc.restartIce();
    return talk({resume: window.key});
}"""


@asynccontextmanager
async def talking_page() -> AsyncIterator[tuple[OtherMachine, RunningServer, Page, VoiceReceiver]]:
    """A page on another machine that sends the stream `kitchen`, and a receiver beside the daemon."""
    async with (
        other_machine() as machine,
        running_server(host=machine.here) as server,
        chromium(namespace=machine.name) as browser,
        signalling(server.ws_url) as watcher,
    ):
        page = await browser.new_page()
        await page.goto(server.url("/sender"))
        await page.evaluate(SENDER)
        await watcher.expect("stream_available", stream_id="kitchen")
        async with voice_receiver(server.ws_url, "kitchen", address=machine.here) as receiver:
            await receiver.packets.wait_for(20)
            yield machine, server, page, receiver


async def test_a_page_whose_address_changed_restarts_ice_over_another_socket_and_is_heard_within_a_second() -> None:
    """The socket of before dies with the address, and nobody closes it: the key shows whose connection goes on."""
    async with talking_page() as (machine, server, page, receiver):
        await machine.change_address()
        usable_s = time.monotonic()
        heard = len(receiver.packets)
        restarted: asyncio.Task[Any] = asyncio.create_task(page.evaluate(RESTART))
        await receiver.packets.wait_for(heard + 20)
        await restarted
        assert receiver.packets[heard + 5].arrived_s - usable_s < HEARD_WITHIN_S
        assert len({packet.ssrc for packet in receiver.packets}) == 1
        assert await page.evaluate("() => pc.connectionState") == "connected"
        assert receiver.peer.connectionState == "connected"
        types = [message["type"] for message in receiver.signalling.history]
        assert types.count("webrtc_offer") == 1
        assert not {"stream_paused", "stream_ended"} & set(types)
        takes_over = f"the sender at {machine.next_address} takes over from that at {machine.there}"
        assert any(takes_over in line for line in server.log)
