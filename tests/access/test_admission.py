"""Tokens and origins as clients of the daemon meet them, and what becomes of texts that clients choose."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.rtc_client import voice_receiver, voice_sender
from tests.support.server import DAEMON, REPOSITORY, RunningServer, running_server
from tests.support.signalling import Signalling, signalling
from tests.support.voice_pages import everyone_left
from voice_streaming.access.tokens import new_token
from voice_streaming.listening.icy import metadata_block, printable
from voice_streaming.process.refusal import Refused
from voice_streaming.streams.names import stream_name

SECRET = "a secret of more than thirty-two characters"
EVERYTHING, TALKER, GUEST = "for-everything-token", "for-talking-only-token", "for-the-kitchen-only-token"
ACCESS = {
    "token_secret": SECRET,
    "tokens": [
        {"token": EVERYTHING, "scopes": ["send", "receive", "admin"]},
        {"token": TALKER, "scopes": ["send"]},
        {"token": GUEST, "scopes": ["receive"], "streams": ["kitchen"]},
    ],
}
PAYLOAD = bytes([120]) * 60
CARD = "http://127.0.0.1:8123"
"""A page of the server's own host, on another port."""


shared_loop = pytest.mark.asyncio(loop_scope="module")
"""Of the tests that share a daemon."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded_daemon() -> AsyncIterator[RunningServer]:
    """A daemon with tokens, whose log must not tell any of them."""
    async with running_server({"access": ACCESS, "server": {"log_level": "DEBUG"}}) as running:
        yield running
    log = "\n".join(running.log)
    for secret in (SECRET, EVERYTHING, TALKER, GUEST):
        assert secret not in log


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(guarded_daemon: RunningServer) -> AsyncIterator[RunningServer]:
    """The daemon with tokens, with nobody there, neither before nor afterwards."""
    yield guarded_daemon
    await everyone_left(guarded_daemon)


async def status(url: str, **options: Any) -> int:
    async with aiohttp.ClientSession() as http, http.get(url, **options) as response:
        return response.status


@shared_loop
async def test_pages_and_health_are_open_and_all_else_wants_its_scope(guarded: RunningServer) -> None:
    for path in ("/", "/sender", "/receiver", "/static/style.css", "/health"):
        assert await status(guarded.url(path)) == 200
    assert await status(guarded.audio_url("/health")) == 200
    assert await status(guarded.url("/metrics")) == 401
    assert await status(guarded.url(f"/metrics?token={GUEST}")) == 403
    assert await status(guarded.url("/metrics"), headers={"Authorization": f"Bearer {EVERYTHING}"}) == 200
    for base in (guarded.url, guarded.audio_url):
        for path in ("/stream/latest.mp3", "/stream/kitchen.mp3", "/stream/status"):
            assert await status(base(path)) == 401
            assert await status(base(f"{path}?token={TALKER}")) == 403
        assert await status(base(f"/stream/status?token={GUEST}")) == 200
        assert await status(base(f"/stream/bedroom.mp3?token={GUEST}")) == 403
        assert await status(base(f"/stream/kitchen.mp3?token={GUEST}")) == 404


@shared_loop
async def test_a_web_page_can_read_why_it_was_refused(guarded: RunningServer) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(guarded.audio_url("/stream/latest.mp3"), headers={"Origin": CARD}) as refused:
            assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, CARD)
            assert "token" in await refused.text()
        async with http.options(guarded.audio_url("/stream/latest.mp3")) as allowed:
            assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]


@shared_loop
@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, 401),
        ("?token=wrong", {}, 401),
        ("", {"Authorization": "Bearer wrong"}, 401),
        (f"?token={EVERYTHING}", {"Origin": "https://evil.example"}, 403),
    ],
)
async def test_a_socket_without_a_token_or_from_elsewhere_does_not_come_about(
    guarded: RunningServer, query: str, headers: dict[str, str], expected: int
) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/ws", "/"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                await http.ws_connect(guarded.url(path) + query, headers=headers)
            assert refusal.value.status == expected


async def refusal_of(client: Signalling, message_type: str, **fields: Any) -> str:
    await client.send(message_type, **fields)
    return str((await client.expect("error"))["code"])


@shared_loop
async def test_each_message_is_measured_by_the_token(guarded: RunningServer) -> None:
    async with signalling(f"{guarded.ws_url}?token={TALKER}") as talker:
        assert await refusal_of(talker, "start_receiving") == "unauthorized"
        assert await refusal_of(talker, "subscribe_visualization") == "unauthorized"
        await talker.send("start_sending", name="kitchen")
        await talker.expect("sender_ready")
    async with signalling(guarded.ws_url, headers={"Authorization": f"Bearer {GUEST}"}) as guest:
        assert await refusal_of(guest, "start_sending", name="kitchen") == "unauthorized"
        assert await refusal_of(guest, "start_receiving", stream_id="bedroom") == "unauthorized"
        assert await refusal_of(guest, "start_receiving", stream_id="kitchen") == "no_stream"


@shared_loop
async def test_a_token_to_send_alone_sees_no_stream_but_its_own(guarded: RunningServer) -> None:
    talker = f"{guarded.ws_url}?token={TALKER}"
    async with aiohttp.ClientSession() as http, http.get(f"{guarded.url('/stream/status')}?token={TALKER}") as status:
        assert status.status == 403
    async with signalling(talker) as watching, voice_sender(talker, name="kitchen") as kitchen:
        await watching.send("subscribe_events")
        await kitchen.send([PAYLOAD])
        await kitchen.signalling.expect("stream_available", stream_id="kitchen")
        await kitchen.signalling.send("get_available_streams")
        await kitchen.signalling.expect("available_streams", streams=["kitchen"])
        await watching.send("get_available_streams")
        for _ in range(2):
            assert (await watching.expect("available_streams"))["streams"] == []
        await kitchen.stop()
        await watching.send("get_available_streams")
        await watching.expect("available_streams")
        assert {message["type"] for message in watching.history} == {"available_streams"}


@shared_loop
async def test_a_token_for_one_stream_neither_hears_nor_sees_another(guarded: RunningServer) -> None:
    everything, guest = (f"{guarded.ws_url}?token={token}" for token in (EVERYTHING, GUEST))
    async with signalling(guest) as watching:
        await watching.expect("available_streams")
        async with voice_sender(everything, name="kitchen") as kitchen, voice_sender(everything, name="bedroom") as bed:
            await kitchen.send([PAYLOAD])
            await watching.expect("stream_available", stream_id="kitchen")
            await bed.send([PAYLOAD])
            await bed.signalling.expect("stream_available", stream_id="bedroom")
            await watching.send("get_available_streams")
            assert (await watching.expect("available_streams"))["streams"] == ["kitchen"]
            async with voice_receiver(guest) as newest:
                assert (await newest.signalling.expect("available_streams"))["streams"] == ["kitchen"]
                await kitchen.send([PAYLOAD, PAYLOAD])
                await newest.packets.wait_for(2)
            async with aiohttp.ClientSession() as http:
                async with http.get(guarded.audio_url(f"/stream/status?token={GUEST}")) as answer:
                    assert (await answer.json())["active_streams"] == ["kitchen"]
                async with http.get(guarded.audio_url(f"/stream/latest.mp3?token={GUEST}")) as player:
                    await player.content.readexactly(2000)
                    async with http.get(guarded.audio_url(f"/stream/status?token={EVERYTHING}")) as answer:
                        details = {one["stream_id"]: one["listeners"] for one in (await answer.json())["details"]}
                    assert details == {"kitchen": 1, "bedroom": 0}
        await watching.settle()
        assert {message.get("stream_id") for message in watching.history} <= {None, "kitchen"}


def run_token(*arguments: str, config: str = "{}") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DAEMON, "token", "--config", "/dev/stdin", *arguments],
        input=config,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@shared_loop
async def test_the_token_command_prints_a_token_that_works(guarded: RunningServer) -> None:
    config = f'{{"access": {{"token_secret": "{SECRET}"}}}}'
    printed = await asyncio.to_thread(
        run_token, "--scope", "receive", "--stream", "kitchen", "--days", "1", config=config
    )
    assert (printed.returncode, printed.stderr) == (0, "")
    token = printed.stdout.strip()
    assert await status(guarded.audio_url(f"/stream/kitchen.mp3?token={token}")) == 404
    assert await status(guarded.audio_url(f"/stream/bedroom.mp3?token={token}")) == 403
    assert await status(guarded.url(f"/metrics?token={new_token(SECRET, ['admin'], [], days=1)}")) == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scope", "receive"], "access.token_secret is not set"),
        (["--scope", "everything"], "invalid choice"),
        (["--scope", "send", "--days", "0"], "must be more than 0"),
        ([], "--scope"),
    ],
)
def test_the_token_command_says_what_is_missing(arguments: list[str], said: str) -> None:
    ended = run_token(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert said in ended.stderr


# Texts that clients choose


@given(st.text())
def test_a_name_that_is_taken_is_no_markup_and_one_line(text: str) -> None:
    try:
        name = stream_name(text)
    except Refused:
        return
    assert len(name.splitlines()) == 1
    assert not set(name) & set('/\\<>"%?;:=`\r\n\t\0')
    assert name == name.strip() != ""


@example(";")
@given(st.text())
def test_a_text_in_a_header_is_one_line(text: str) -> None:
    assert printable(text) == "" or printable(text).isprintable()
    block = metadata_block(text)
    assert len(block) == 1 + 16 * block[0]
    field = block[1:].rstrip(b"\0")
    assert field.startswith(b"StreamTitle='")
    assert field.endswith(b"';")
    assert b"'" not in field.removeprefix(b"StreamTitle='")[:-2]


def test_scripts_put_no_text_into_markup() -> None:
    sinks = re.compile(r"(innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval|new Function)[^`]*(`[^`]*`)?")
    for script in sorted((REPOSITORY / "static").rglob("*.js")):
        for found in sinks.finditer(script.read_text()):
            assert found[1] == "innerHTML", f"{script.name}: {found[0]}"
            assert found[2] is not None, f"{script.name}: {found[0]}"
            # A choice between two texts of our own is none of the client's.
            assert "${" not in re.sub(r'\$\{[\w.]+ \? "[^"]*" : "[^"]*"\}', "", found[2]), f"{script.name}: {found[0]}"


async def test_no_path_leads_out_of_the_pages(server: RunningServer) -> None:
    secret = b"root:"
    for path in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "a%00b"):
        for base in ("/static/", "/stream/", "/"):
            for port in (server.port, server.audio_port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {base}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
                writer.close()
                assert re.match(rb"HTTP/1.1 40[0345] ", answer), (path, answer)
                assert secret not in answer


ANY_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
QUERY = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranges=ANY_VALUE, icy=ANY_VALUE, accept=ANY_VALUE, origin=ANY_VALUE, query=QUERY)
async def test_no_header_of_a_player_makes_an_error_or_a_header(
    port: int, ranges: str, icy: str, accept: str, origin: str, query: str
) -> None:
    lines = [
        f"GET /stream/latest.mp3?{query.replace('#', '')} HTTP/1.1",
        "Host: x",
        f"Range: bytes={ranges}",
        f"Icy-MetaData: {icy}",
        f"Accept: {accept}",
        f"Origin: {origin}",
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.transport.abort()
    assert re.match(rb"HTTP/1\.1 (200|206|400) ", head), head
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
    assert names <= EXPECTED_HEADERS, names


EXPECTED_HEADERS = {
    *(b"content-type", b"accept-ranges", b"icy-name", b"icy-br", b"icy-pub", b"icy-metaint", b"cache-control"),
    *(b"access-control-allow-origin", b"access-control-expose-headers", b"connection", b"content-range"),
    *(b"content-length", b"date", b"transfer-encoding", b"last-modified", b"etag", b"vary"),
    *(b"x-accel-buffering", b"x-content-type-options"),
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with running_server() as running:
        yield running.audio_port
        assert not [line for line in running.log if "ERROR" in line]
