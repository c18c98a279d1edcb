"""How a publisher leaves, as others see it: over real sockets."""

from __future__ import annotations

from tests.support.rtc_client import voice_sender
from tests.support.server import RunningServer
from tests.support.signalling import signalling
from voice_streaming.signalling.signalling import CLOSED_TO_RETURN

VOICE = [b"voice of one packet"]


async def test_a_page_that_is_left_ends_its_stream_once(server: RunningServer) -> None:
    """Its peer connection closes just before its socket."""
    async with signalling(server.ws_url) as watcher:
        async with voice_sender(server.ws_url, name="kitchen") as sender:
            await sender.send(VOICE)
            await watcher.expect("stream_available")
            await sender.peer.close()
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")
        assert [message for message in watcher.history if message["type"] == "stream_paused"] == []


async def test_a_goodbye_of_the_peer_alone_pauses_the_stream(server: RunningServer) -> None:
    async with (
        signalling(server.ws_url) as watcher,
        voice_sender(server.ws_url, name="kitchen") as sender,
    ):
        await sender.send(VOICE)
        await watcher.expect("stream_available")
        await sender.peer.close()
        await watcher.expect("stream_paused", stream_id="kitchen")


async def test_a_client_that_gives_its_socket_up_to_return_pauses_its_stream(server: RunningServer) -> None:
    async with signalling(server.ws_url) as watcher, voice_sender(server.ws_url, name="kitchen") as sender:
        await sender.send(VOICE)
        await watcher.expect("stream_available")
        await sender.signalling.socket.close(code=CLOSED_TO_RETURN)
        await watcher.expect("stream_paused", stream_id="kitchen")
        assert [message for message in watcher.history if message["type"] == "stream_ended"] == []
