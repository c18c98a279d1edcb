"""`/health`: what the status says of the problems, and a server with each kind of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.ports import free_port
from tests.support.server import running_server
from voice_streaming.program import healthcheck
from voice_streaming.settings.model import AudioSettings, ServerSettings, Settings
from voice_streaming.web.health import MAIN_WORK, http_status, status_of
from webrtc_server_relay import VoiceStreamingServer


@pytest.mark.parametrize(
    ("problems", "status", "code"),
    [
        ([], "ok", 200),
        (["https"], "degraded", 200),
        (["announce-on-lan", "mp3-listener"], "degraded", 200),
        *[(["https", name], "failing", 503) for name in sorted(MAIN_WORK)],
    ],
)
def test_only_problems_of_the_main_work_are_503(problems: list[str], status: str, code: int) -> None:
    assert status_of(problems) == status
    assert http_status(status) == code


@asynccontextmanager
async def server_here(folder: Path, **settings: Any) -> AsyncIterator[VoiceStreamingServer]:
    """A server in this process, so that a test can break a part of it."""
    server = VoiceStreamingServer(
        Settings(
            server=ServerSettings(
                host="127.0.0.1", port=free_port(), **{"tls": "off", "data_dir": str(folder)} | settings
            ),
            audio=AudioSettings(port=free_port()),
        )
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def health(server: VoiceStreamingServer) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{server.settings.server.port}/health"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


async def test_without_https_it_is_degraded(tmp_path: Path) -> None:
    folder = tmp_path / "no-folder"
    folder.write_text("")
    async with server_here(folder, tls="auto", tls_port=free_port()) as server:
        code, found = await health(server)
    assert (code, found["status"], found["tls_port"], found["id"]) == (200, "degraded", None, None)
    assert set(found["problems"]) == {"https", "server-id"}
    assert "server.data_dir" in found["problems"]["https"]


async def test_without_the_ingress_port_it_is_degraded(tmp_path: Path) -> None:
    async with (
        server_here(tmp_path) as other,
        server_here(tmp_path, ingress_port=other.settings.audio.port) as server,
    ):
        code, found = await health(server)
    assert (code, found["status"], list(found["problems"])) == (200, "degraded", ["ingress-port"])


async def test_without_the_audio_port_it_fails(tmp_path: Path) -> None:
    async with server_here(tmp_path) as server:
        assert (await health(server))[1]["audio_server_running"] is True
        (listening,) = [
            socket
            for socket in server.admission.ports._listening
            if socket.getsockname()[1] == server.settings.audio.port
        ]
        asyncio.get_running_loop().remove_reader(listening.fileno())
        listening.close()
        code, found = await health(server)
        server.admission.ports._listening.remove(listening)
    assert (code, found["status"], found["audio_server_running"]) == (503, "failing", False)
    assert found["problems"] == {"audio-port": f"port {server.settings.audio.port} is not open"}


async def test_with_a_registry_that_cannot_be_read_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_here(tmp_path) as server:
        with monkeypatch.context() as patch:
            patch.setattr(type(server.streams), "live_count", property(lambda streams: 1 // 0))
            code, found = await health(server)
    assert (code, found["status"], found["active_streams"]) == (503, "failing", 0)
    assert list(found["problems"]) == ["registry"]


async def test_with_a_clock_that_fails_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_here(tmp_path) as server, aiohttp.ClientSession() as http:
        failed = asyncio.Event()

        def fail(*arguments: object) -> None:
            failed.set()
            raise ZeroDivisionError("by design")

        monkeypatch.setattr(server.audio_server._channels, "_prepare", fail)
        async with http.get(f"http://127.0.0.1:{server.settings.audio.port}/stream/latest.mp3"):
            await failed.wait()
            code, found = await health(server)
    assert (code, found["status"], list(found["problems"])) == (503, "failing", ["mp3-clock"])


def test_the_health_check_tells_the_problems() -> None:
    assert healthcheck._problems(b'{"status":"failing","problems":{"mp3-clock":"ZeroDivisionError()"}}') == (
        ", mp3-clock: ZeroDivisionError()"
    )
    for other in (b"", b"OK", b"[1]", b'{"problems": 7}', b"{}"):
        assert healthcheck._problems(other) == ""


async def test_the_id_outlives_a_restart(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        async with (
            running_server({"server": {"data_dir": str(tmp_path)}}) as server,
            aiohttp.ClientSession() as http,
            http.get(server.url("/health")) as response,
        ):
            ids.append((await response.json())["id"])
    assert ids == [(tmp_path / "server-id").read_text().strip()] * 2


async def test_with_a_certificate_that_browsers_refuse_it_is_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server_here(tmp_path, tls="auto", tls_port=free_port()) as server:
        assert server.certificates is not None
        assert (await health(server))[1]["problems"] == {}
        monkeypatch.setattr(server.certificates, "trouble", lambda: "it has expired")
        code, found = await health(server)
    assert (code, found["status"], found["problems"]) == (200, "degraded", {"certificate": "it has expired"})
