"""Web pages that publish by WHIP and play by WHEP with packages of npm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.availability import unavailable
from tests.support.foreign import NODE
from tests.support.server import REPOSITORY

PACKAGES = REPOSITORY / "node_modules"
WHIP_WHEP = """
import { WHIPClient } from "whip-whep/whip.js";
import { WHEPClient } from "whip-whep/whep.js";
const until = async condition => {
    for (const begun = performance.now(); !condition(); ) {
        if (performance.now() - begun > 20000) throw new Error(`not ${condition}`);
        await new Promise(resolve => setTimeout(resolve, 20));
    }
};
window.trickled = [];
const ask = window.fetch;
window.fetch = async (url, options) => {
    const answer = await ask(url, options);
    if (options.method === "PATCH") trickled.push(answer.status);
    return answer;
};
window.publish = async ({url, withVideo}) => {
    // The page hears itself, which is not to be taken away.
    const audio = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
    const media = await navigator.mediaDevices.getUserMedia({audio});
    const peer = new RTCPeerConnection();
    for (const track of media.getTracks()) peer.addTransceiver(track, {direction: "sendonly"});
    if (withVideo) peer.addTransceiver("video", {direction: "sendonly"});
    window.publisher = new WHIPClient();
    await publisher.publish(peer, url);
    await until(() => peer.connectionState === "connected" && trickled.length);
    return {trickled, directions: peer.getTransceivers().map(({currentDirection}) => currentDirection)};
};
window.play = async ({url, withVideo}) => {
    const peer = new RTCPeerConnection();
    if (withVideo) peer.addTransceiver("video", {direction: "recvonly"});
    const {receiver} = peer.addTransceiver("audio", {direction: "recvonly"});
    window.played = new MediaStream([receiver.track]);
    const element = new Audio();
    element.srcObject = played;
    element.play();
    window.player = new WHEPClient();
    await player.view(peer, url);
    await until(() => peer.connectionState === "connected");
    return true;
};
window.loaded = true;
"""
"""`publish` and `play` with whip-whep."""

EYEVINN = """
import { WebRTCPlayer } from "@eyevinn/webrtc-player";
window.play = async ({url, withVideo}) => {
    const video = document.createElement("video");
    document.body.append(video);
    window.player = new WebRTCPlayer({
        // Without iceServers it asks a public STUN server.
        video, type: "whep", iceServers: [], mediaConstraints: {audioOnly: !withVideo},
    });
    let failed = "";
    for (const failure of ["initial-connection-failed", "connect-error"]) player.on(failure, () => (failed = failure));
    await player.load(new URL(url));
    // It tells of failures, and not of success.
    for (const begun = performance.now(); player.peer?.connectionState !== "connected" || !video.srcObject; ) {
        if (failed || performance.now() - begun > 20000) throw new Error(failed || "not connected");
        await new Promise(resolve => setTimeout(resolve, 20));
    }
    window.played = video.srcObject;
    await video.play();
    return played.getTracks().map(({kind}) => kind);
};
window.loaded = true;
"""
"""`play` with @eyevinn/webrtc-player."""
_PAGE = '<!doctype html><title>WHIP and WHEP</title><script type="module" src="script.js"></script>'


async def bundle(script: str) -> str:
    """The module with all that it imports from packages, as one: what a user's own build makes for a page."""
    program = PACKAGES / "esbuild" / "bin" / "esbuild"
    if not program.exists():
        unavailable("npm's packages are not installed (scripts/check-pages.sh installs them where it can)")
    options = ["--bundle", "--format=esm", "--log-level=warning"]
    process = await asyncio.create_subprocess_exec(
        NODE, program, *options, cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    bundled, _ = await asyncio.wait_for(process.communicate(script.encode()), 60)
    assert process.returncode == 0
    return bundled.decode()


@asynccontextmanager
async def page_of_another_origin(port: int, script: str) -> AsyncIterator[str]:
    """A page with that script, which is a server's of its own; yields its address."""
    bundled = await bundle(script)

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def code(_: web.Request) -> web.Response:
        return web.Response(text=bundled, content_type="text/javascript")

    application = web.Application()
    application.add_routes([web.get("/", page), web.get("/script.js", code)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()
