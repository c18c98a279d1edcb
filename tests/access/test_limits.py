"""Limits, asked of the daemon by clients that want too much; and the bucket by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from tests.support.process import child_process
from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import REPOSITORY, RunningServer, running_server
from tests.support.signalling import Signalling, SignallingError, signalling
from voice_streaming.access.limits import Limits, TokenBucket
from voice_streaming.process.refusal import Refused
from voice_streaming.settings.model import LimitSettings, ServerSettings, Settings
from voice_streaming.streams.stream import Stream
from voice_streaming.streams.track import OpusTrack

FLOOD = REPOSITORY / "benchmarks" / "flood.py"
PAYLOAD = bytes([120]) * 60


async def figures(server: RunningServer) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(server.url("/metrics")) as response:
        return dict(await response.json())


async def upgrade(server: RunningServer, local_address: str = "127.0.0.1") -> tuple[int, str | None]:
    """The status and Retry-After of a WebSocket that is closed again if it comes about."""
    connector = aiohttp.TCPConnector(local_addr=(local_address, 0))
    async with aiohttp.ClientSession(connector=connector) as http:
        try:
            async with http.ws_connect(server.ws_url):
                return 101, None
        except aiohttp.WSServerHandshakeError as error:
            return error.status, error.headers["Retry-After"] if error.headers else None


# By themselves


def new_limits(streams: dict[str, Stream] | None = None, **limits: int) -> Limits:
    settings = Settings(server=ServerSettings(max_connections=3), limits=LimitSettings(**limits))
    return Limits(settings, {} if streams is None else streams)


def new_stream(name: str) -> Stream:
    return Stream(name, name, OpusTrack(), "sender")


def test_each_address_and_all_together_have_their_numbers_of_connections() -> None:
    limits = new_limits(connections_per_address=2)
    with limits.connection("192.0.2.1"), limits.connection("192.0.2.1"):
        for _ in range(2):
            with pytest.raises(web.HTTPTooManyRequests), limits.connection("192.0.2.1"):
                pytest.fail("one more than there may be of an address")
        with limits.connection("192.0.2.2"):
            with pytest.raises(web.HTTPServiceUnavailable), limits.connection("192.0.2.3"):
                pytest.fail("one more than there may be in all")
            assert (limits.refused["connections"], limits.refused["connections_of_address"]) == (1, 2)
    with limits.connection("192.0.2.1"), limits.connection("192.0.2.1"), limits.connection("192.0.2.2"):
        pass


def test_one_of_two_that_leaves_makes_room_for_one() -> None:
    limits = new_limits(connections_per_address=2)
    with limits.connection("192.0.2.1"):
        with limits.connection("192.0.2.1"):
            pass
        with (
            limits.connection("192.0.2.1"),
            pytest.raises(web.HTTPTooManyRequests),
            limits.connection("192.0.2.1"),
        ):
            pytest.fail("one more than there may be of an address")


def test_a_server_that_stops_lets_nobody_in() -> None:
    limits = new_limits()
    limits.close()
    with pytest.raises(web.HTTPServiceUnavailable), limits.connection("192.0.2.1"):
        pytest.fail("the server is stopping")


def test_a_description_as_long_as_the_limit_is_taken() -> None:
    limits = new_limits(max_sdp_characters=1000)
    limits.check_sdp("v" * 1000)
    with pytest.raises(Refused) as refusal:
        limits.check_sdp("v" * 1001)
    assert refusal.value.code == "sdp_too_long"
    assert limits.refused["sdp"] == 1


def test_a_stream_that_is_there_may_come_again_when_no_other_may() -> None:
    streams = {"kitchen": new_stream("kitchen")}
    limits = new_limits(streams, max_streams=2)
    limits.check_stream("hall")
    streams["hall"] = new_stream("hall")
    limits.check_stream("kitchen")
    for name in ("cellar", None):
        with pytest.raises(Refused) as refusal:
            limits.check_stream(name)
        assert refusal.value.code == "too_many_streams"
    assert limits.refused["streams"] == 2


def test_a_stream_that_replaces_another_is_no_more() -> None:
    streams = {"stream_1": new_stream("stream_1")}
    limits = new_limits(streams, max_streams=1)
    for name in ("cellar", None):
        limits.check_stream(name, "stream_1")
        with pytest.raises(Refused):
            limits.check_stream(name, "stream_2")


async def test_as_many_negotiations_as_the_limit_and_none_more() -> None:
    limits = new_limits(max_negotiations=2)
    async with limits.negotiation():
        limits.check_negotiations()
        async with limits.negotiation():
            assert limits.negotiations == 2
            with pytest.raises(Refused) as refusal:
                limits.check_negotiations()
            assert refusal.value.code == "too_many_negotiations"
    assert limits.negotiations == 0
    assert limits.refused["negotiations"] == 1


async def test_requests_are_answered_one_a_turn_and_health_at_once() -> None:
    limits = new_limits()
    answered: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        answered.append(request.path)
        return web.Response(text=request.path)

    async def ask(path: str) -> str | None:
        response = await limits.pace(make_mocked_request("GET", path), answer)
        assert isinstance(response, web.Response)
        return response.text

    waiting = [asyncio.create_task(ask(path)) for path in ("/1", "/2", "/3", "/health")]
    counts = []
    for _ in range(20):
        await asyncio.sleep(0)
        counts.append(len(answered))
    assert answered == ["/health", "/1", "/2", "/3"]
    assert set(np.diff([0, *counts])) <= {0, 1}, "no two in one turn of the event loop"
    assert await asyncio.gather(*waiting) == ["/1", "/2", "/3", "/health"]


# Of the daemon


async def test_sockets_over_the_limit_get_503_and_of_one_address_429() -> None:
    config = {"server": {"max_connections": 4}, "limits": {"connections_per_address": 3}}
    async with running_server(config) as server, contextlib.AsyncExitStack() as stack:
        first = [await stack.enter_async_context(signalling(server.ws_url)) for _ in range(3)]
        assert await upgrade(server) == (429, "5")
        assert await upgrade(server, "127.0.0.2") == (101, None)
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        await stack.enter_async_context(http.ws_connect(server.ws_url))
        assert await upgrade(server, "127.0.0.2") == (503, "5")
        counted = await figures(server)
        assert (counted["refused_connections"], counted["refused_connections_of_address"]) == (1, 1)
        assert counted["limit_connections_per_address"] == 3
        await first[0].close()
        assert await upgrade(server) == (101, None)


async def test_a_socket_that_sends_too_much_gets_an_error_and_is_cut_off() -> None:
    config = {"limits": {"messages_per_s": 1, "message_burst": 5}}
    async with (
        running_server(config) as server,
        signalling(server.ws_url) as other,
        signalling(server.ws_url) as client,
    ):
        for _ in range(8):
            await client.send("get_available_streams")
        assert (await client.expect("error"))["code"] == "too_many_messages"
        assert await client.expect_close() == 1006
        assert sum(message["type"] == "available_streams" for message in client.history) <= 1 + 5
        await other.send("get_available_streams")
        assert (await figures(server))["refused_messages"] == 1


async def test_pings_and_bytes_count_as_messages() -> None:
    async with running_server({"limits": {"messages_per_s": 1, "message_burst": 4}}) as server:
        for send in ("ping", "send_bytes"):
            async with signalling(server.ws_url) as client:
                for _ in range(6):
                    await getattr(client.socket, send)(b"x")
                await client.expect("error", code="too_many_messages")


async def test_a_ping_is_answered(server: RunningServer) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url, autoping=False) as socket:
        await socket.receive()
        await socket.ping(b"are you there?")
        answer = await socket.receive(timeout=5)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"are you there?")


async def refusal(client: Signalling, message_type: str, **fields: Any) -> str:
    await client.send(message_type, **fields)
    return str((await client.expect("error"))["code"])


async def test_long_descriptions_are_refused_before_they_are_read() -> None:
    async with running_server({"limits": {"max_sdp_characters": 4096}}) as server, signalling(server.ws_url) as client:
        await client.send("start_sending")
        offer = {"type": "offer", "sdp": "v=0\r\n" * 1000}
        assert await refusal(client, "webrtc_offer", offer=offer) == "sdp_too_long"
        assert (await figures(server))["refused_sdp"] == 1


async def test_streams_and_receivers_have_limits_and_free_room_again() -> None:
    config = {"limits": {"max_streams": 1, "max_receivers": 1}, "webrtc": {"resume_grace_s": 0}}
    async with running_server(config) as server, signalling(server.ws_url) as client:
        async with voice_sender(server.ws_url, name="one") as sender:
            await sender.send([PAYLOAD])
            await client.expect("stream_available")
            assert await refusal(client, "start_sending", name="two") == "too_many_streams"
            assert await refusal(client, "start_sending") == "too_many_streams"
            # A stream that is live is not a new one.
            await client.send("start_sending", name="one", take_over=True)
            await client.expect("sender_ready")
            async with voice_receiver(server.ws_url, "one"):
                assert await refusal(client, "start_receiving", stream_id="one") == "too_many_receivers"
            counted = await figures(server)
            assert (counted["refused_streams"], counted["refused_receivers"]) == (2, 1)
            await sender.stop()
        await client.expect("stream_ended")
        await client.send("start_sending", name="two")
        await client.expect("sender_ready")


@pytest.mark.parametrize("name", [None, "two"])
async def test_a_sender_may_begin_again_when_no_other_may(name: str | None) -> None:
    async with running_server({"limits": {"max_streams": 1}}) as server, voice_sender(server.ws_url) as sender:
        await sender.send([PAYLOAD])
        await sender.signalling.expect("stream_available")
        await sender.signalling.send("start_sending", **({} if name is None else {"name": name}))
        await sender.signalling.expect("stream_ended")
        await sender.signalling.expect("sender_ready")


async def test_a_crowd_that_comes_at_once_gets_no_more_than_there_is_room_for() -> None:
    config = {"limits": {"max_receivers": 5}}
    async with running_server(config, arguments=["--demo"]) as server, contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(signalling(server.ws_url)) for _ in range(20)]
        await asyncio.gather(*(client.send("start_receiving", stream_id="demo") for client in crowd))
        refused = 0
        for client in crowd:
            try:
                await client.expect("webrtc_offer")
            except SignallingError:
                assert (await client.expect("error"))["code"] == "too_many_receivers"
                refused += 1
        assert refused == 15


async def test_an_idle_socket_is_closed_and_one_that_waits_for_meters_is_not() -> None:
    config = {"server": {"cleanup_interval_s": 0.5}, "limits": {"idle_socket_s": 1.0}}
    async with running_server(config, arguments=["--demo"]) as server, signalling(server.ws_url) as watching:
        await watching.send("subscribe_visualization")
        async with signalling(server.ws_url) as idle:
            assert (await idle.expect("error"))["code"] == "idle"
            assert await idle.expect_close() == 1000
        await watching.expect("audio_data")
        assert (await figures(server))["refused_idle"] == 1


async def test_negotiations_under_way_are_limited_and_none_is_forgotten() -> None:
    async with (
        running_server({"limits": {"max_negotiations": 2}}, arguments=["--demo"]) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(signalling(server.ws_url)) for _ in range(40)]
        await asyncio.gather(*(client.send("start_receiving", stream_id="demo") for client in clients))
        async with asyncio.timeout(10):
            while sum(len(client.history) >= 2 for client in clients) < len(clients):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        said = [client.history[1] for client in clients]
        assert {message["type"] for message in said} == {"webrtc_offer", "error"}
        assert {message["code"] for message in said if message["type"] == "error"} == {"too_many_negotiations"}
        counted = await figures(server)
        assert counted["negotiations"] == 0
        assert counted["refused_negotiations"] == sum(message["type"] == "error" for message in said)


async def test_a_connection_that_makes_no_request_is_closed() -> None:
    async with running_server({"limits": {"request_timeout_s": 0.5}}) as server:
        for beginning in (b"", b"GET /health HTTP/1.1\r\nX-Slow: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(beginning)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


@given(
    st.floats(min_value=0.1, max_value=1000),
    st.integers(min_value=1, max_value=1000),
    st.lists(st.floats(min_value=0, max_value=10), max_size=200),
)
def test_a_bucket_gives_no_more_than_its_rate_and_its_burst(rate_per_s: float, burst: int, pauses: list[float]) -> None:
    bucket = TokenBucket(rate_per_s, burst, now_s := 100.0)
    taken = 0
    for pause_s in pauses:
        now_s += pause_s
        taken += bucket.take(now_s)
    assert taken <= burst + sum(pauses) * rate_per_s + 1e-6
    assert taken >= min(burst, len(pauses))
    assert bucket.take(now_s + 2 / rate_per_s)


@pytest.mark.e2e
@pytest.mark.alone
async def test_a_flood_of_500_sockets_costs_no_voice_a_packet() -> None:
    """How long /health takes meanwhile is measured there, and asserted nowhere: it depends on the machine."""
    arguments = ["--sockets", "500", "--seconds", "1.5", "--kinds", "messages", "--kinds", "requests", "--json"]
    async with child_process([sys.executable, FLOOD, *arguments]) as flood:
        exit_code = await flood.wait(timeout_s=55)
    assert exit_code == 0, flood.log_text()
    result = json.loads(flood.log[-1])
    assert result["trouble"] == []
    for outcome in result["outcomes"]:
        assert outcome["health_failures"] == 0
        assert outcome["expected"] > 500
