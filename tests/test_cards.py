"""Lovelace cards that exist already: a page of another port of the same host, speaking to `/ws` as they do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page

from tests.support.chromium import chromium
from tests.support.server import running_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# What such cards do, and this server's own pages do not: the offer leaves before its candidates, which trickle as the
# objects that the event has; the receiver asks twice; nothing has a name; the answer goes without looking.
_CARD = """
<!doctype html><title>Dashboard</title><audio id="voice" autoplay></audio><script>
function connect(address) {
  const socket = new WebSocket(address), peer = new RTCPeerConnection({iceServers: [], bundlePolicy: "max-bundle"});
  const send = (message) => socket.send(JSON.stringify(message));
  peer.onicecandidate = ({candidate}) => candidate && send({type: "ice_candidate", candidate});
  const open = new Promise((resolve, reject) => Object.assign(socket, {onopen: resolve, onerror: reject}));
  return {socket, peer, send, open};
}
async function talk(address) {
  const {socket, peer, send, open} = connect(address);
  await open;
  const media = await navigator.mediaDevices.getUserMedia({audio: true});
  media.getTracks().forEach((track) => peer.addTrack(track, media));
  socket.onmessage = async ({data}) => {
    const message = JSON.parse(data);
    if (message.type === "sender_ready") {
      const offer = await peer.createOffer();
      send({type: "webrtc_offer", offer: {sdp: offer.sdp, type: offer.type}});
      await peer.setLocalDescription(offer);
    }
    if (message.type === "webrtc_answer") await peer.setRemoteDescription(message.answer);
  };
  send({type: "start_sending"});
}
async function listen(address) {
  const {socket, peer, send, open} = connect(address);
  await open;
  let asked = false;
  peer.ontrack = ({streams}) => document.querySelector("#voice").srcObject = streams[0];
  socket.onmessage = async ({data}) => {
    const message = JSON.parse(data);
    const live = message.type === "stream_available" || message.streams?.length;
    if (live && !asked) {
      asked = true;
      send({type: "start_receiving"});
      send({type: "start_receiving"});
    }
    if (message.type === "webrtc_offer") {
      await peer.setRemoteDescription(message.offer);
      const answer = await peer.createAnswer();
      await peer.setLocalDescription(answer);
      send({type: "webrtc_answer", answer: {sdp: answer.sdp, type: answer.type}});
    }
  };
}
</script>
"""
_HEARD = """
async () => {
  const audio = document.querySelector("#voice");
  while (!audio.srcObject || audio.currentTime < 0.5) await new Promise((resolve) => setTimeout(resolve, 50));
  const context = new AudioContext(), analyser = context.createAnalyser();
  context.createMediaStreamSource(audio.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  for (let attempt = 0; attempt < 200; attempt++) {
    analyser.getFloatTimeDomainData(samples);
    if (Math.max(...samples) > 0.02) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}
"""


@asynccontextmanager
async def dashboard() -> AsyncIterator[str]:
    """Home Assistant's part in it: a page at another port; yields its address."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=_CARD, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def card(page: Page, home: str, call: str, address: str) -> None:
    await page.goto(home)
    await page.evaluate(f"address => {call}(address)", address)


async def test_a_card_talks_and_another_listens_from_a_dashboard_on_another_port(speech_wav: Path) -> None:
    async with running_server() as server, dashboard() as home, chromium(microphone=speech_wav) as browser:
        context = await browser.new_context()
        listening, talking = await context.new_page(), await context.new_page()
        await card(listening, home, "listen", server.ws_url)
        await card(talking, home, "talk", server.ws_url)
        assert await listening.evaluate(_HEARD)
