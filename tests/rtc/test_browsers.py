"""Browsers as senders and receivers: what their pages do with a connection that is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.browsers import BROWSERS, BrowserName, BrowserPage, browser_page
from tests.support.stage import Stage, on_stage, until
from voice_streaming.rtc import ReceiverPeer, SenderPeer
from voice_streaming.rtc.negotiated_peer import NegotiatedPeer
from voice_streaming.settings.model import WebrtcSettings

pytestmark = pytest.mark.e2e

# A page without a microphone: it sends a tone.
SCRIPT = """
window.describe = async (pc, restart) => {
    await pc.setLocalDescription(await pc.createOffer({iceRestart: !!restart}));
    while (pc.iceGatheringState !== "complete") await new Promise((resolve) => setTimeout(resolve, 5));
    return pc.localDescription.sdp;
}
window.tone = () => {
    const context = new AudioContext(), oscillator = context.createOscillator();
    const end = context.createMediaStreamDestination();
    oscillator.connect(end);
    oscillator.start();
    return end.stream.getAudioTracks()[0];
}
window.sending = (options) => {
    const pc = new RTCPeerConnection(options);
    window.track = tone();
    window.sender = pc.addTrack(window.track);
    return pc;
}
"""


RECEIVING = """() => {
    window.pc = new RTCPeerConnection();
    window.pc.addTransceiver("audio", {direction: "recvonly"});
}"""


# How many packets each stream had and lost, once that makes as many as were sent; what it is after ten seconds if not.
ACCOUNTED = """async (sent) => {
    let counts = [];
    for (let tries = 0; tries < 500; tries++) {
        counts = [...(await window.pc.getStats()).values()].filter((one) => one.type === "inbound-rtp")
            .map((one) => [one.packetsReceived, one.packetsLost]);
        if (counts.some(([received, lost]) => received + lost >= sent)) break;
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return counts;
}"""


@asynccontextmanager
async def page_on_stage(browser: BrowserName, kind: str) -> AsyncIterator[tuple[Stage, BrowserPage, NegotiatedPeer]]:
    async with on_stage() as stage, browser_page(browser) as page:
        await page.evaluate(f"() => {{ {SCRIPT} }}")
        peer: NegotiatedPeer
        if kind == "sender":
            peer = stage.peers.sender(stage.track)
            await page.evaluate("() => { window.pc = sending() }")
        else:
            peer = stage.peers.receiver(stage.track)
            await page.evaluate(RECEIVING)
        stage._open.append(peer)
        peer.on_gone = stage.gone.append
        connected = asyncio.Event()
        peer.on_connected = connected.set
        await negotiate(page, peer)
        await asyncio.wait_for(connected.wait(), 10)
        yield stage, page, peer


async def negotiate(page: BrowserPage, peer: NegotiatedPeer, restart: bool = False) -> None:
    offer = await page.evaluate("(restart) => describe(window.pc, restart)", restart)
    if peer._remote is not None:
        assert peer.continues(offer)
    answer = await peer.answer(offer)
    await page.evaluate("(sdp) => window.pc.setRemoteDescription({type: 'answer', sdp})", answer)


async def hear(stage: Stage, count: int = 20) -> None:
    before = stage.track.packets
    await until(lambda: stage.track.packets >= before + count, "packets")


async def longest_gap_s(stage: Stage, work: asyncio.Task[None]) -> float:
    """How long the longest silence was while `work` was done, and for half a second after."""
    loop = asyncio.get_running_loop()
    longest_s, newest_s, packets, end_s = 0.0, loop.time(), stage.track.packets, None
    while end_s is None or loop.time() < end_s:
        if work.done() and end_s is None:
            await work
            end_s = loop.time() + 0.5
        await asyncio.sleep(0.005)
        if stage.track.packets > packets:
            packets, newest_s = stage.track.packets, loop.time()
        longest_s = max(longest_s, loop.time() - newest_s)
    return longest_s


def heard(peer: NegotiatedPeer) -> tuple[int, int]:
    assert isinstance(peer, SenderPeer)
    assert peer.reception is not None
    return peer.reception.ssrc, peer.reception.lost


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_further_track_costs_no_packet(browser: BrowserName) -> None:
    async with page_on_stage(browser, "sender") as (stage, page, peer):
        await hear(stage)
        ssrc, _ = heard(peer)
        await page.evaluate("() => { window.pc.addTrack(tone()); window.pc.addTransceiver('video') }")
        await negotiate(page, peer)
        await hear(stage, 50)
        assert heard(peer) == (ssrc, 0)
        assert stage.gone == []


@pytest.mark.parametrize("browser", BROWSERS)
async def test_an_ice_restart_goes_on_at_once(browser: BrowserName) -> None:
    async with page_on_stage(browser, "sender") as (stage, page, peer):
        await hear(stage)
        association = peer._dtls
        for _ in range(2):
            session = peer._ice
            work = asyncio.create_task(negotiate(page, peer, restart=True))
            assert await longest_gap_s(stage, work) < 1
            await until(lambda session=session: peer._ice is not session, "the new pair")  # type: ignore[misc]
            await hear(stage)
        assert peer._dtls is association
        assert heard(peer)[1] == 0
        assert await page.evaluate("() => window.pc.connectionState") == "connected"


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_receiver_restarts(browser: BrowserName) -> None:
    async with page_on_stage(browser, "receiver") as (stage, page, peer):
        assert isinstance(peer, ReceiverPeer)
        session = peer._ice
        stage.publish(b"\xf8\xff\xfe")
        await negotiate(page, peer, restart=True)
        await until(lambda: peer._ice is not session, "the new pair")
        for _ in range(30):
            stage.publish(b"\xf8\xff\xfe")
            await asyncio.sleep(0.02)
        assert await page.evaluate(ACCOUNTED, 31) == [[31, 0]]


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_detached_track_is_silence_and_no_end(browser: BrowserName) -> None:
    async with page_on_stage(browser, "sender") as (stage, page, peer):
        assert isinstance(peer, SenderPeer)
        stage.peers.endpoint.settings = WebrtcSettings(host_addresses=("127.0.0.1",), media_timeout_s=1.0)
        words: list[str] = []
        peer.on_silent, peer.on_heard = lambda: words.append("silent"), lambda: words.append("heard")
        await hear(stage)
        await page.evaluate("() => window.sender.replaceTrack(null)")
        await until(lambda: words == ["silent"], "silence", 15)
        await page.evaluate("() => window.sender.replaceTrack(window.track)")
        await until(lambda: words == ["silent", "heard"], "the next packet")
        assert stage.gone == []


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("same_session", [False, True])
async def test_a_new_connection_with_the_same_certificate(browser: BrowserName, same_session: bool) -> None:
    """The page takes the DTLS role that we leave it; an o= line copied from the old one hides that it is new."""
    async with on_stage() as stage, browser_page(browser) as page:
        await page.evaluate(f"() => {{ {SCRIPT} }}")
        await page.evaluate("""async () => {
            const key = await RTCPeerConnection.generateCertificate({name: "ECDSA", namedCurve: "P-256"});
            window.pc = sending({certificates: [key]});
            window.next = sending({certificates: [key]});
        }""")
        peer = stage.peers.sender(stage.track)
        stage._open.append(peer)
        peer.on_gone = stage.gone.append
        offer = (await page.evaluate("() => describe(window.pc)")).replace("a=setup:actpass", "a=setup:active")
        answer = await peer.answer(offer)
        assert "a=setup:passive" in answer
        await page.evaluate("(sdp) => window.pc.setRemoteDescription({type: 'answer', sdp})", answer)
        await hear(stage)
        further = (await page.evaluate("() => describe(window.next)")).replace("a=setup:actpass", "a=setup:active")
        assert not peer.continues(further)
        if same_session:
            further = further.replace(further.split()[2], offer.split()[2])
            association = peer._dtls
            assert peer.continues(further)
            answer = await peer.answer(further)
            await page.evaluate("(sdp) => window.next.setRemoteDescription({type: 'answer', sdp})", answer)
            await until(lambda: peer._dtls is not association, "an association of its own")
            await hear(stage)
