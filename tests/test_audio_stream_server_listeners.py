"""The MP3 routes over time: listeners who come late, pause, do not read or leave, and who is counted."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress

import pytest

from tests.support.live_radio import Radio, radio_with
from tests.support.radio import mp3_frames
from tests.support.raw_http import raw_request, read_head
from voice_streaming.settings.model import AudioSettings, ServerSettings, Settings

pytestmark = pytest.mark.slow


async def test_after_the_end_a_retry_is_not_found_at_once(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
        await answer.some(417)
        radio.end(stream)
        await answer.body()
    for path in ("/stream/kitchen.mp3", "/stream/kitchen.m3u"):
        async with raw_request(radio.port, path) as answer:
            assert answer.status == 404


async def test_one_listener_too_many(payloads: list[bytes]) -> None:
    async with radio_with(payloads, max_listeners=1) as radio, raw_request(radio.port, "/stream/latest.mp3"):
        async with raw_request(radio.port, "/stream/latest.mp3") as answer:
            assert answer.status == 503
            assert "retry-after" in answer.headers
        async with raw_request(radio.port, "/stream/latest.mp3", method="HEAD") as answer:
            assert answer.status == 200


async def test_follow_0_waits_for_a_stream_and_ends_with_it(radio: Radio) -> None:
    async with raw_request(radio.port, "/stream/latest.mp3?follow=0") as answer:
        audio = await answer.some(8000)
        stream = radio.speak()
        audio += await answer.some(8000)
        radio.end(stream)
        audio += await answer.body()
    assert mp3_frames(audio)
    await radio.listeners_become(0)


async def test_a_player_that_leaves_is_counted_out(radio: Radio) -> None:
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3"):
        assert stream.listeners == 1
    await radio.listeners_become(0)
    assert stream.listeners == 0


async def test_listeners_that_do_not_read_are_disconnected_and_nobody_else_notices(payloads: list[bytes]) -> None:
    async with radio_with(payloads, bitrate_bps=320_000, max_backlog_s=0.5) as radio:
        radio.speak()
        stalled = []
        async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
            for _ in range(50):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", radio.port))
                connection.sendall(b"GET /stream/kitchen.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
                stalled.append(connection)
            await radio.listeners_become(51)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            async with answer.being_read() as audio:
                await radio.listeners_become(1, timeout_s=20)
                passed_s = loop.time() - begun_s
            assert radio.server.counters.disconnected_slow == 50
        assert len(mp3_frames(bytes(audio))) * 1152 / 44_100 > passed_s - 1
        for connection in stalled:
            connection.close()


async def position(radio: Radio, played_s: float) -> float:
    path = f"/stream/position?listener=x&played={played_s:.3f}"
    async with raw_request(radio.port, path, "Connection: close") as answer:
        assert answer.status == 200
        return float(json.loads(await answer.body())["behind_s"])


def seconds_of(audio: bytes) -> float:
    return len(audio) / 16_000


async def test_a_listener_learns_how_far_behind_live_it_is(radio: Radio) -> None:
    radio.speak()
    for path in ("/stream/latest.mp3?listener=x", "/stream/kitchen.mp3?burst=3&listener=x"):
        asked_s = time.monotonic()
        async with raw_request(radio.port, path) as answer:
            burst_s = 3.0 if "burst" in path else 0.5
            at_first = await position(radio, 0)
            # Joined and answered meanwhile: on a busy machine, that is some time.
            joining_s = time.monotonic() - asked_s
            assert burst_s - 0.1 < at_first < burst_s + 0.1 + joining_s
            begun_s = time.monotonic()
            audio = await answer.during(1.5)
            passed_s = time.monotonic() - begun_s
            later = await position(radio, 1)
            answering_s = time.monotonic() - begun_s - passed_s
            assert at_first - 1 + passed_s - 0.1 < later < at_first - 1 + passed_s + 0.1 + joining_s + answering_s
            # What came last is live, but for the chunk that is due next.
            async with asyncio.timeout(5):
                while not -0.05 < await position(radio, seconds_of(audio)) < 0.4:
                    audio += await answer.during(0.1)


@pytest.mark.parametrize(
    ("query", "status"),
    [("listener=y&played=1", 404), ("listener=x", 400), ("played=1", 400), ("listener=x&played=-1", 400), ("", 400)],
)
async def test_a_position_that_nobody_has(radio: Radio, query: str, status: int) -> None:
    async with raw_request(radio.port, "/stream/latest.mp3?listener=x"):
        lines = ("Origin: http://127.0.0.1:8080",)
        async with raw_request(radio.port, f"/stream/position?{query}", *lines) as answer:
            assert answer.status == status
            assert "access-control-allow-origin" in answer.headers
    await radio.listeners_become(0)
    async with raw_request(radio.port, "/stream/position?listener=x&played=1") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("icy", [False, True])
async def test_a_player_that_pauses_is_brought_back_to_live(payloads: list[bytes], icy: bool) -> None:
    async with radio_with(payloads, max_backlog_s=30) as radio:
        radio.speak()
        begun_s = time.monotonic()
        lines = ("Icy-MetaData: 1",) if icy else ()
        path = "/stream/kitchen.mp3?listener=x"
        async with raw_request(radio.port, path, *lines, receive_buffer=4096) as answer:
            joined_s = time.monotonic()
            await asyncio.sleep(6)
            received = await answer.during(4)
            counters = radio.server.counters
            audio = without_metadata(received) if icy else received
            frames = mp3_frames(audio)
            # It includes what is under way to the player.
            asked_s = time.monotonic()
            behind_s = await position(radio, seconds_of(audio))
            answered_s = time.monotonic()
            dropped_s = counters.dropped_frames * 1152 / 44_100
            assert counters.brought_back == 1
            assert counters.disconnected_slow == 0
            # Of six seconds and the burst, two were kept for it, and what is on its own side.
            assert dropped_s > 3
            total_s = len(frames) * 1152 / 44_100 + dropped_s + behind_s - 0.5
            assert asked_s - joined_s - 0.4 < total_s < answered_s - begun_s + 0.4
            assert behind_s < 1
            figures = radio.server.figures()
    assert figures["mp3_slow_listeners_brought_back_total"] == 1
    assert figures["mp3_slow_listeners_dropped_seconds_total"] == pytest.approx(dropped_s, abs=0.001)


def without_metadata(received: bytes) -> bytes:
    audio, position = b"", 0
    while position + 16_000 < len(received):
        audio += received[position : position + 16_000]
        position += 16_000 + 1 + 16 * received[position + 16_000]
    return audio + received[position:]


async def test_a_short_hold_up_costs_nothing(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3", receive_buffer=4096) as answer:
        await asyncio.sleep(1.2)
        mp3_frames(await answer.during(1.5))
    assert radio.server.counters.dropped_frames == 0


async def test_a_thousand_that_connect_and_vanish_leave_nothing_behind(radio: Radio) -> None:
    radio.speak()
    tasks_before = len(asyncio.all_tasks())
    for _ in range(5):
        connections = [await asyncio.open_connection("127.0.0.1", radio.port) for _ in range(200)]
        for index, (reader, writer) in enumerate(connections):
            writer.write(b"GET /stream/latest.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
            if index % 3:
                await read_head(reader)
        for _, writer in connections:
            writer.transport.abort()
    await radio.listeners_become(0)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > tasks_before:  # noqa: ASYNC110 - nothing tells when a task is gone
            await asyncio.sleep(0.01)
    assert radio.server.counters.listeners_total >= 5 * 133


async def test_stop_lets_listeners_go_at_once(radio: Radio) -> None:
    radio.speak()
    async with raw_request(radio.port, "/stream/latest.mp3") as answer:
        await answer.some(417)
        async with asyncio.timeout(1):
            await radio.server.stop()
        with suppress(ConnectionResetError):
            await answer.body()
    assert not radio.server.is_running


async def test_figures(radio: Radio) -> None:
    begun_s = asyncio.get_running_loop().time()
    stream = radio.speak()
    async with raw_request(radio.port, "/stream/kitchen.mp3") as answer:
        received = await answer.some(16_000)
        figures = radio.server.figures()
        passed_s = asyncio.get_running_loop().time() - begun_s
    assert figures["mp3_listeners"] == 1
    assert figures["mp3_encoders"] == 1
    assert figures["mp3_sent_bytes_total"] >= len(received)
    # Of the second that was received, half is the silence before the speech, which needs no encoder.
    assert 0.3 < figures["mp3_encoded_seconds_total"] < passed_s + 0.5
    assert 0 < figures["mp3_encoder_cpu_seconds_total"] < figures["mp3_encoded_seconds_total"]
    radio.end(stream)
    async with asyncio.timeout(5):
        while radio.server.figures()["mp3_concealed_packets_total"] != 1:  # noqa: ASYNC110 - it is a counter
            await asyncio.sleep(0.01)


async def test_a_port_in_use(radio: Radio, payloads: list[bytes]) -> None:
    settings = Settings(server=ServerSettings(host="127.0.0.1"), audio=AudioSettings(port=radio.port))
    with pytest.raises(OSError, match="in use"):
        await Radio(settings, payloads).server.start()
