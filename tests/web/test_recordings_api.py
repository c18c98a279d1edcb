"""Recordings over HTTP: who may do what, and what is answered to what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.audio import Samples, decode_audio
from tests.support.matching import assert_same_speech
from tests.support.ports import free_port
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.talking import talking

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDINGS, ADMIN, LISTENER, ATTIC = "recordings-token-1", "admin-token-23456", "listener-token-12", "attic-only-token1"
TOKENS = [
    {"token": RECORDINGS, "scopes": ["recordings"]},
    {"token": ADMIN, "scopes": ["admin"]},
    {"token": LISTENER, "scopes": ["send", "receive"]},
    {"token": ATTIC, "scopes": ["recordings"], "streams": ["attic"]},
]


OF_A_USER = {"X-Remote-User-Id": "someone", "X-Forwarded-For": "192.0.2.7"}


class Api:
    def __init__(self, server: RunningServer, http: aiohttp.ClientSession, token: str = "") -> None:
        self.server = server
        self.http = http
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask(self, method: str, path: str = "", **fields: Any) -> tuple[int, Any]:
        fields["headers"] = {**self.headers, **fields.get("headers", {})}
        async with self.http.request(method, self.server.url(f"/api/recordings{path}"), **fields) as answer:
            is_json = "json" in answer.content_type
            return answer.status, await answer.json() if is_json else await answer.read()

    async def listed(self, query: str = "") -> list[dict[str, Any]]:
        status, body = await self.ask("GET", query)
        assert status == 200, body
        found: list[dict[str, Any]] = body["recordings"]
        return found

    async def recorded(self, recording_id: str, seconds: float) -> None:
        """Once it is so long."""
        async with asyncio.timeout(seconds + 10):
            while True:
                _, recording = await self.ask("GET", f"/{recording_id}")
                if recording["seconds"] >= seconds:
                    return
                await asyncio.sleep(0.1)

    async def finished(self, count: int) -> list[dict[str, Any]]:
        """Once there are so many, and none is being made."""
        async with asyncio.timeout(10):
            while True:
                found = await self.listed()
                if len(found) == count and all(recording["state"] == "finished" for recording in found):
                    return found
                await asyncio.sleep(0.02)


@asynccontextmanager
async def studio(tokens: bool = False, **recording: Any) -> AsyncIterator[tuple[RunningServer, aiohttp.ClientSession]]:
    chosen = {"mode": "manual", "min_free_bytes": 0, **recording}
    config: dict[str, Any] = {"recording": chosen, "access": {"tokens": TOKENS if tokens else []}}
    async with running_server(config) as server, aiohttp.ClientSession() as http:
        yield server, http


async def test_a_recording_from_its_begin_to_its_removal(payloads: list[bytes], speech: Samples) -> None:
    async with (
        studio(open=True) as (server, http),
        signalling(server.ws_url) as watcher,
        talking(server.ws_url, "Küche", payloads),
    ):
        api = Api(server, http)
        await watcher.send("subscribe_events")
        status, begun = await api.ask("POST", json={"stream": "küche"})
        assert status == 201
        assert (begun["stream"], begun["state"], begun["rooms"]) == ("Küche", "recording", [])
        event = await watcher.expect("event")
        assert (event["kind"], event["stream_id"], event["recording"]) == ("recording_started", "Küche", begun["id"])
        async with signalling(server.ws_url) as other:
            assert (await other.expect("available_streams"))["details"][0]["recording"] is True
        assert (await api.ask("POST", json={"stream": "Küche"}))[0] == 409
        one = f"/{begun['id']}"
        for path in (f"{one}.opus", f"{one}.mp3", f"{one}/peaks"):
            assert (await api.ask("GET", path))[0] == 409
        assert (await api.ask("DELETE", one))[0] == 409
        await api.recorded(begun["id"], 4)
        assert (await api.ask("POST", f"{one}/stop"))[0] == 200
        (found,) = await api.finished(1)
        assert (await watcher.expect("event"))["kind"] == "recording_ended"
        assert found["seconds"] == pytest.approx(4, abs=0.5)
        assert (await api.ask("POST", f"{one}/stop"))[0] == 409
        status, sound = await api.ask("GET", f"{one}.opus")
        assert status == 200
        assert_same_speech(speech, decode_audio(sound))
        assert (await api.ask("GET", f"{one}.opus", headers={"Range": "bytes=0-3"})) == (206, b"OggS")
        status, mp3 = await api.ask("GET", f"{one}.mp3")
        assert_same_speech(speech, decode_audio(mp3))
        status, peaks = await api.ask("GET", f"{one}/peaks")
        assert peaks["seconds"] == pytest.approx(found["seconds"], abs=0.05)
        assert max(peaks["peaks"]) > 10
        assert (await api.ask("DELETE", one))[0] == 204
        event = await watcher.expect("event")
        assert (event["kind"], event["stream_id"], event["recording"]) == ("recording_deleted", "Küche", begun["id"])
        assert await api.listed() == []
        assert (await api.ask("GET", one))[0] == 404
        async with http.get(server.url("/metrics"), headers={"Accept": "application/json"}) as answer:
            figures = await answer.json()
        assert (figures["recordings_started_total"], figures["recordings_kept"]) == (1, 0)


async def test_a_name_to_save_it_by(tmp_path: Path, payloads: list[bytes]) -> None:
    async with studio(open=True, mode="always", folder=str(tmp_path)) as (server, http):
        async with talking(server.ws_url, "Küche", payloads):
            await asyncio.sleep(0.5)
        (found,) = await Api(server, http).finished(1)
        async with http.get(server.url(f"/api/recordings/{found['id']}.opus?download=1")) as answer:
            assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''20")
            assert "K%C3%BCche.opus" in answer.headers["Content-Disposition"]
            assert answer.headers["Content-Type"] == "audio/ogg; codecs=opus"
            etag = answer.headers["ETag"]
        async with http.get(
            server.url(f"/api/recordings/{found['id']}.opus"), headers={"If-None-Match": etag}
        ) as answer:
            assert answer.status == 304


async def test_without_tokens_they_are_nobodys_unless_they_are_open() -> None:
    async with studio() as (server, http):
        api = Api(server, http)
        for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{'0' * 16}"), ("DELETE", f"/{'0' * 16}")):
            status, body = await api.ask(method, path)
            assert status == 403
            assert "recording.open" in body["detail"]
    assert not [line for line in server.log if "Recordings are open" in line]
    async with studio(open=True) as (server, http):
        assert (await Api(server, http).ask("GET"))[0] == 200
    assert [line for line in server.log if "Recordings are open" in line]


async def test_a_token_needs_the_scope_and_covers_its_streams_alone(payloads: list[bytes]) -> None:
    async with studio(tokens=True, mode="always", open=True) as (server, http):
        for name in ("attic", "kitchen"):
            async with talking(f"{server.ws_url}?token={LISTENER}", name, payloads):
                await asyncio.sleep(0.3)
        everything = Api(server, http, RECORDINGS)
        found = {recording["stream"]: recording["id"] for recording in await everything.finished(2)}
        assert len(await Api(server, http, ADMIN).listed()) == 2
        assert (await Api(server, http).ask("GET"))[0] == 401
        assert (await Api(server, http, "wrong-token-12345").ask("GET"))[0] == 401
        assert (await Api(server, http, LISTENER).ask("GET"))[0] == 403
        attic = Api(server, http, ATTIC)
        assert [recording["stream"] for recording in await attic.listed()] == ["attic"]
        kitchen = f"/{found['kitchen']}"
        for method, path in (
            ("GET", kitchen),
            ("GET", f"{kitchen}.opus"),
            ("GET", f"{kitchen}.mp3"),
            ("GET", f"{kitchen}/peaks"),
            ("POST", f"{kitchen}/stop"),
            ("DELETE", kitchen),
        ):
            # The same as for one that never was.
            never = path.replace(found["kitchen"], "0" * 16)
            assert await attic.ask(method, path) == await attic.ask(method, never)
        async with talking(f"{server.ws_url}?token={LISTENER}", "kitchen", payloads):
            assert (await attic.ask("POST", json={"stream": "kitchen"}))[0] == 404
        async with (
            signalling(f"{server.ws_url}?token={ATTIC}") as of_attic,
            signalling(f"{server.ws_url}?token={RECORDINGS}") as of_all,
        ):
            for watcher in (of_attic, of_all):
                await watcher.send("subscribe_events", kinds=["recording_started", "recording_deleted"])
            async with talking(f"{server.ws_url}?token={LISTENER}", "kitchen", payloads):
                assert (await of_all.expect("event"))["kind"] == "recording_started"
            assert (await everything.ask("DELETE", kitchen))[0] == 204
            assert (await attic.ask("DELETE", f"/{found['attic']}"))[0] == 204
            for watcher, names in ((of_attic, ["attic"]), (of_all, ["kitchen", "attic"])):
                for name in names:
                    assert (await watcher.expect("event"))["recording"] == found[name]


async def test_users_of_home_assistant_may_where_the_setting_says_so() -> None:
    for allowed in (True, False):
        port = free_port()
        config = {
            "server": {"ingress_port": port},
            "access": {"ingress_address": "127.0.0.1"},
            "recording": {"mode": "manual", "ingress": allowed},
        }
        async with running_server(config) as server, aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/api/recordings", headers=OF_A_USER) as answer:
                assert answer.status == (200 if allowed else 403)
            # Whoever says so himself is not believed.
            assert (await Api(server, http).ask("GET", headers=OF_A_USER))[0] == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"stream": 1}',
        b'{"stream": ""}',
        b'{"stream": "kitchen", "seconds": 0}',
        b'{"stream": "kitchen", "seconds": 1e9}',
        b'{"stream": "kitchen", "second": 1}',
        b'{"stream": "\xff"}',
        b"[" * 4000,
        b" " * 5000,
    ],
)
async def test_a_body_that_is_wrong_is_refused(open_api: Api, body: bytes) -> None:
    status, answer = await open_api.ask("POST", data=body)
    assert status == 400
    assert answer["detail"]


async def test_what_is_not_there_is_not_found(open_api: Api) -> None:
    for method, path in (
        ("GET", f"/{'0' * 16}"),
        ("GET", f"/{'0' * 16}.opus"),
        ("GET", "/..%2f..%2fetc%2fpasswd"),
        ("GET", "/zzzz"),
        ("DELETE", f"/{'0' * 16}"),
        ("POST", f"/{'0' * 16}/stop"),
    ):
        assert (await open_api.ask(method, path))[0] == 404
    assert (await open_api.ask("POST", json={"stream": "nobody"}))[0] == 404
    assert (await open_api.ask("GET", "?limit=9999"))[0] == 400


async def test_a_page_of_elsewhere_may_not_change_anything(open_api: Api) -> None:
    status, _ = await open_api.ask("POST", json={"stream": "x"}, headers={"Origin": "https://evil.example"})
    assert status == 403


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_api() -> AsyncIterator[Api]:
    async with studio(open=True) as (server, http):
        yield Api(server, http)


async def test_off_begins_nothing_and_lists_what_was_kept(payloads: list[bytes]) -> None:
    async with studio(open=True, mode="off") as (server, http):
        api = Api(server, http)
        assert await api.listed() == []
        async with talking(server.ws_url, "kitchen", payloads):
            status, body = await api.ask("POST", json={"stream": "kitchen"})
        assert status == 409
        assert "recording.mode" in body["detail"]
