"""Facts about aiortc that the design rests on (DESIGN section 2)."""

from __future__ import annotations

import asyncio
import threading

import av
import pytest
from aiortc import RTCRtpSender
from aiortc.codecs import get_decoder
from aiortc.contrib.media import MediaRelay
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcicetransport import RTCIceGatherer
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from aiortc.sdp import SessionDescription

from tests.support.rtc_client import PayloadTrack, gather_on_loopback, new_peer, wait_until_connected
from tests.support.stage import until


async def test_a_description_is_complete_as_soon_as_it_is_set() -> None:
    """aiortc never trickles: there is nothing to wait for before an offer or answer goes out."""
    peer = new_peer()
    peer.addTransceiver("audio")
    gather_on_loopback(peer)
    await peer.setLocalDescription(await peer.createOffer())
    (section,) = SessionDescription.parse(peer.localDescription.sdp).media
    assert peer.iceGatheringState == "complete"
    assert section.ice_candidates
    assert section.ice_candidates_complete
    await peer.close()


async def test_the_default_configuration_names_a_public_stun_server() -> None:
    """Which is why every peer connection here is given its servers, if only an empty list."""
    assert any("stun:" in str(server.urls) for server in RTCIceGatherer.getDefaultIceServers())
    silent = new_peer()
    silent.addTransceiver("audio")
    assert silent.getTransceivers()[0].receiver.transport.transport._connection.stun_server is None
    await silent.close()


def delays_of(buffer: JitterBuffer, numbers: list[int]) -> list[int]:
    """How many packets behind the newest each frame is when it leaves the buffer."""
    delays = []
    for number in numbers:
        packet = RtpPacket(payload_type=96, sequence_number=number, timestamp=number * 960)
        packet._data = b"voice"  # type: ignore[attr-defined]
        _, frame = buffer.add(packet)
        if frame is not None:
            delays.append(number - frame.timestamp // 960)
    return delays


async def test_aiortc_delays_audio_and_one_lost_packet_more_than_triples_it_for_good() -> None:
    """Which is why received packets never see its jitter buffer."""
    peer = new_peer()
    receiver = peer.addTransceiver("audio").receiver
    buffer = receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
    assert (buffer._capacity, buffer._prefetch) == (16, 4)
    await peer.close()
    numbers = list(range(200))
    assert set(delays_of(JitterBuffer(16, 4), numbers)) == {4}, "80 ms"
    after_loss = delays_of(JitterBuffer(16, 4), [number for number in numbers if number != 50])
    assert set(after_loss[:40]) == {4}
    assert set(after_loss[100:]) == {14}, "280 ms"


async def test_aiortcs_own_receive_starts_a_decoder_thread_for_each_peer() -> None:
    """Which is why `receive` is replaced, and why receivers are offered `sendonly`."""
    both = [new_peer(), new_peer()]
    both[0].addTrack(PayloadTrack())
    gather_on_loopback(both[0])
    before = threading.active_count()
    await both[0].setLocalDescription(await both[0].createOffer())
    await both[1].setRemoteDescription(both[0].localDescription)
    gather_on_loopback(both[1])
    await both[1].setLocalDescription(await both[1].createAnswer())
    await both[0].setRemoteDescription(both[1].localDescription)
    await asyncio.gather(*map(wait_until_connected, both))
    await until(lambda: threading.active_count() > before, "a thread more")
    await asyncio.gather(*(peer.close() for peer in both))


async def test_aiortcs_relay_reads_on_when_nobody_listens_and_leaves_late_comers_waiting() -> None:
    """Which is why `VoiceRelay` has a pump of its own."""
    relay, source = MediaRelay(), PayloadTrack()
    proxy = relay.subscribe(source)
    source.put(b"voice", 0)
    assert isinstance(await proxy.recv(), av.Packet)
    assert proxy._queue.maxsize == 0, "no bound"  # type: ignore[attr-defined]
    late = relay.subscribe(source)
    proxy.stop()
    source.put(b"for nobody", 960)
    await until(source._packets.empty, "the source is read")
    source.end()
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late.recv(), 0.1)
    with pytest.raises(MediaStreamError):
        await proxy.recv()


def test_an_empty_payload_poisons_the_decoder_that_gets_it() -> None:
    """Which is why the tap drops empty payloads."""
    codec = next(c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus")
    decoder = get_decoder(RTCRtpCodecParameters(codec.mimeType, codec.clockRate, codec.channels, payloadType=96))
    silence = b"\xf8\xff\xfe"
    assert decoder.decode(JitterFrame(data=silence, timestamp=0))
    with pytest.raises(Exception, match=r"."):  # noqa: PT012 - whichever of the two raises
        decoder.decode(JitterFrame(data=b"", timestamp=960))
        decoder.decode(JitterFrame(data=silence, timestamp=1_920))
