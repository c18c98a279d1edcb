"""Two servers of ours: one pulls from the other, or pushes to it. Each is a process of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.ports import free_port
from tests.support.rtc_client import VoiceReceiver, VoiceSender, voice_receiver, voice_sender
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import PAYLOADS
from voice_streaming.exchange import pull
from voice_streaming.settings.model import AudioSettings, PullSettings, ServerSettings, Settings, WebrtcSettings
from webrtc_server_relay import VoiceStreamingServer

TOKEN = "a-token-of-the-first-server"
GUARDED = {"access": {"tokens": [{"token": TOKEN, "scopes": ["send", "receive"]}]}}


async def get_json(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def link(server: RunningServer, state: str, error: str = "", timeout_s: float = 15) -> dict[str, Any]:
    """The only link of the server, once it is in that state; `error` is a part of its last error."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                (found,) = (await get_json(server.url("/health")))["exchange"]
                if found["state"] == state and error in (found["last_error"] or ""):
                    return dict(found)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not {state} within {timeout_s} s: {found}") from None


async def streams(server: RunningServer) -> list[dict[str, Any]]:
    return list((await get_json(server.url("/stream/status")))["details"])


async def hear(sender: VoiceSender, receiver: VoiceReceiver) -> None:
    """Every payload arrives, in order, with nothing in between."""
    before = len(receiver.packets)
    await sender.send(PAYLOADS, interval_s=0.005)
    await receiver.packets.wait_for(before + len(PAYLOADS))
    assert receiver.packets.payloads()[before:] == PAYLOADS


def pulling(port: int, **further: Any) -> dict[str, Any]:
    return {"sources": {"barn": {"whep": f"http://127.0.0.1:{port}/whep/kitchen", **further}}}


@pytest.mark.slow
async def test_a_receiver_at_the_second_server_hears_the_first() -> None:
    async with (
        running_server(GUARDED) as first,
        voice_sender(f"{first.ws_url}?token={TOKEN}", name="kitchen") as sender,
        running_server(pulling(first.port, token=TOKEN)) as second,
        signalling(second.ws_url) as watcher,
    ):
        # The stream is not live at the first server when the second asks for it at first.
        found = await link(second, "waiting")
        assert found == {
            "name": "barn",
            "direction": "pull",
            "url": f"http://127.0.0.1:{first.port}",
            "state": "waiting",
            "last_error": "It answered 409 Conflict",
        }
        await sender.send(PAYLOADS[:1])
        assert (await link(second, "connected"))["last_error"] is None
        await sender.send(PAYLOADS[:1])
        await watcher.expect("stream_available", stream_id="barn")
        (listed,) = await streams(second)
        assert (listed["name"], listed["via"]) == ("barn", "whep")
        async with voice_receiver(second.ws_url, "barn") as receiver:
            await hear(sender, receiver)
        await sender.stop()
        await watcher.expect("stream_ended", stream_id="barn", reason="source ended")
        assert not any(TOKEN in line for line in first.log + second.log)


async def test_a_stream_is_pushed_for_as_long_as_it_is_live() -> None:
    async with running_server(GUARDED) as second:
        target = {"whip": f"http://127.0.0.1:{second.port}/whip/hall", "token": TOKEN}
        async with (
            running_server({"targets": {"kitchen": [target]}}) as first,
            signalling(f"{second.ws_url}?token={TOKEN}") as watcher,
            voice_sender(first.ws_url, name="kitchen") as sender,
        ):
            assert (await link(first, "idle"))["direction"] == "push"
            await sender.send(PAYLOADS[:1])
            await link(first, "connected")
            await sender.send(PAYLOADS[:1])
            await watcher.expect("stream_available", stream_id="hall")
            async with voice_receiver(f"{second.ws_url}?token={TOKEN}", "hall") as receiver:
                await hear(sender, receiver)
            assert [stream["receivers"] for stream in await streams(first)] == [1]
            await sender.stop()
            await watcher.expect("stream_ended", stream_id="hall", reason="sender left")
            await link(first, "idle")
            assert not any(TOKEN in line for line in first.log + second.log)


async def test_a_pull_goes_on_when_the_other_server_is_back() -> None:
    async with (
        running_server(expected_exit_code=-signal.SIGKILL) as first,
        voice_sender(first.ws_url, name="kitchen") as sender,
    ):
        await sender.send(PAYLOADS[:1])
        async with running_server(pulling(first.port)) as second, signalling(second.ws_url) as watcher:
            await link(second, "connected")
            await sender.send(PAYLOADS[:1])
            await watcher.expect("stream_available", stream_id="barn")
            async with voice_receiver(second.ws_url, "barn") as receiver:
                await hear(sender, receiver)
                # As by a lack of power: nobody is told goodbye.
                await first.process.kill()
                await watcher.expect("stream_paused", stream_id="barn", timeout_s=10)
                async with running_server(ports=(first.port, first.audio_port)) as again, AsyncExitStack() as stack:
                    # It is there before its sender is.
                    await link(second, "waiting", "409 Conflict", timeout_s=10)
                    returned = await stack.enter_async_context(voice_sender(again.ws_url, name="kitchen"))
                    await returned.send(PAYLOADS[:1])
                    await link(second, "connected", timeout_s=30)
                    await returned.send(PAYLOADS[:1])
                    await watcher.expect("stream_resumed", stream_id="barn")
                    # The receiver's connection is the same as before.
                    await receiver.packets.wait_for(len(PAYLOADS) + 1)
                    await hear(returned, receiver)


@asynccontextmanager
async def pulling_on_demand(port: int, **further: Any) -> AsyncIterator[str]:
    """A server in this process that pulls `barn` on demand; gives its address."""
    source = PullSettings(f"http://127.0.0.1:{port}/whep/kitchen", on_demand=True)
    settings = Settings(
        server=ServerSettings(host="127.0.0.1", port=free_port(), tls="off"),
        audio=AudioSettings(port=free_port(), encoder_linger_s=0),
        webrtc=WebrtcSettings(host_addresses=("127.0.0.1",)),
        sources={"barn": source},
        **further,
    )
    server = VoiceStreamingServer(settings)
    await server.start()
    try:
        yield f"127.0.0.1:{settings.server.port}"
    finally:
        await server.stop()


async def until_state(address: str, state: str) -> None:
    async with asyncio.timeout(10):
        while (  # noqa: ASYNC110 - nothing tells when it changes
            await get_json(f"http://{address}/health")
        )["exchange"][0]["state"] != state:
            await asyncio.sleep(0.02)


async def keep_talking(sender: VoiceSender) -> None:
    while True:
        await sender.send(PAYLOADS)


async def test_a_pull_on_demand_runs_while_somebody_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "LINGER_S", 0.1)
    monkeypatch.setattr(pull.Pull, "check_s", 0.05)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running_server())
        sender = await stack.enter_async_context(voice_sender(first.ws_url, name="kitchen"))
        address = await stack.enter_async_context(pulling_on_demand(first.port))
        talking = asyncio.create_task(keep_talking(sender))
        stack.callback(talking.cancel)
        assert (await get_json(f"http://{address}/stream/status"))["details"] == []
        assert [stream["receivers"] for stream in await streams(first)] == [0]
        async with voice_receiver(f"ws://{address}/ws", "Barn") as receiver:
            await receiver.packets.wait_for(20)
            await until_state(address, "connected")
        await until_state(address, "idle")
        assert (await get_json(f"http://{address}/stream/status"))["details"] == []
        assert [stream["receivers"] for stream in await streams(first)] == [0]
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/stream/barn.mp3") as player:
            assert player.status == 200
            assert await player.content.readexactly(10_000)
            await until_state(address, "connected")
        await until_state(address, "idle")


async def test_what_cannot_be_had_on_demand_is_refused_as_any_stream_that_is_not_live() -> None:
    async with pulling_on_demand(free_port()) as address, signalling(f"ws://{address}/ws") as client:
        for _ in range(2):
            await client.send("start_receiving", stream_id="barn")
            await client.expect("error", code="no_stream")
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/stream/barn.mp3") as player:
            assert player.status == 404
        (found,) = (await get_json(f"http://{address}/health"))["exchange"]
        assert found["last_error"].startswith("Cannot connect")
