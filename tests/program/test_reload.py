"""SIGHUP: the daemon takes up new certificates, tokens and log levels, and nothing ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.support.ports import free_port
from tests.support.process import child_process
from tests.support.server import DAEMON, RunningServer, running_server
from voice_streaming.access.access import Access
from voice_streaming.network.certificates import Identity, make_authority, make_server_identity
from voice_streaming.program.reload import Reload, ReloadRequests
from voice_streaming.settings.model import AccessSettings, ConfigError, ServerSettings, Settings, TokenSettings

TOKEN, OTHER_TOKEN = "a" * 16, "b" * 16


def tokens(*values: str) -> dict[str, Any]:
    return {"tokens": [{"token": value, "scopes": ["receive"]} for value in values]}


def write_certificate(folder: Path, authority: Identity, name: str) -> None:
    """`server.pem` and `key.pem`."""
    pem = make_server_identity(authority, [name], datetime.now(UTC)).to_pem()
    (folder / "server.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(pem)


def change(running: RunningServer, **sections: dict[str, Any]) -> None:
    path = running.directory / "config.json"
    values = json.loads(path.read_text())
    for section, keys in sections.items():
        values.setdefault(section, {}).update(keys)
    path.write_text(json.dumps(values))


async def status_with(server: RunningServer, token: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(server.url(f"/stream/status?token={token}")) as response:
        return response.status


async def names_served(port: int, authority: Identity) -> str:
    context = ssl.create_default_context(cadata=authority.certificate_pem().decode())
    context.check_hostname = False
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return str(certificate["subjectAltName"][0][1])


async def test_certificates_tokens_and_log_level_are_reloaded_or_nothing_is(tmp_path: Path) -> None:
    authority = make_authority("Test", datetime.now(UTC), ["one.local", "two.local", "three.local"])
    write_certificate(tmp_path, authority, "one.local")
    tls_port = free_port()
    files = {"ssl_cert_file": str(tmp_path / "server.pem"), "ssl_key_file": str(tmp_path / "key.pem")}
    config = {"server": {"tls": "files", "tls_port": tls_port, **files}, "access": tokens(TOKEN)}
    async with running_server(config) as server:
        assert await names_served(tls_port, authority) == "one.local"

        write_certificate(tmp_path, authority, "two.local")
        change(server, access=tokens(OTHER_TOKEN), server={"log_level": "warning", "queue_size": 5})
        server.process.send_signal(signal.SIGHUP)
        line = await server.process.wait_for_log("Reloaded")
        assert line.endswith(
            "Reloaded: certificates, tokens (1), log level WARNING; changed, but only from the next start on: "
            "server.queue_size"
        )
        assert await names_served(tls_port, authority) == "two.local"
        assert (await status_with(server, TOKEN), await status_with(server, OTHER_TOKEN)) == (401, 200)

        # What is wrong of the new ones keeps the others from being taken up.
        write_certificate(tmp_path, authority, "three.local")
        change(server, access=tokens(TOKEN, "too short"))
        server.process.send_signal(signal.SIGHUP)
        line = await server.process.wait_for_log("Nothing is reloaded")
        assert "access.tokens.1.token is (not shown)" in line
        assert await names_served(tls_port, authority) == "two.local"
        change(server, access=tokens(TOKEN))
        (tmp_path / "server.pem").write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        line = await server.process.wait_for_log("Nothing is reloaded: server.ssl_cert_file")
        assert (await status_with(server, TOKEN), await status_with(server, OTHER_TOKEN)) == (401, 200)
        assert await names_served(tls_port, authority) == "two.local"

        write_certificate(tmp_path, authority, "three.local")
        seen = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        await server.process.wait_for_log("Reloaded", after=seen)
        assert (await status_with(server, TOKEN), await status_with(server, OTHER_TOKEN)) == (200, 401)
        assert await names_served(tls_port, authority) == "three.local"


def ignores_hangups(pid: int) -> bool:
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:\t")[2].split()[0]
    return bool(int(mask, 16) & 1 << (signal.SIGHUP - 1))


async def test_no_hangup_ends_a_server_that_starts(tmp_path: Path) -> None:
    """One after the other, from the moment that Python runs the program until it serves."""
    port = free_port()
    config = {
        "server": {"host": "127.0.0.1", "port": port, "tls": "off", "data_dir": str(tmp_path)},
        "audio": {"port": free_port()},
        "discovery": {"lan": False},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    async with child_process(
        [sys.executable, DAEMON, "--config", tmp_path / "config.json"],
        environment={key: value for key, value in os.environ.items() if key != "SSL_CERT_FILE"},
        directory=tmp_path,
    ) as process:
        async with asyncio.timeout(20):
            while True:
                if ignores_hangups(process.pid):
                    break
                await asyncio.sleep(0)
            serving = asyncio.create_task(process.wait_for_log("VLC:"))
            while not serving.done():
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
            await process.wait_for_log("Reloaded")
        assert process.exit_code is None
        process.send_signal(signal.SIGTERM)
        assert await process.wait(timeout_s=10) == 0


async def test_a_hangup_before_somebody_listens_is_not_lost() -> None:
    requests = ReloadRequests()
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        called.set()

    called = asyncio.Event()
    before = signal.getsignal(signal.SIGHUP)
    with requests.received():
        os.kill(os.getpid(), signal.SIGHUP)
        with requests.listening(count):
            await called.wait()
            assert calls == 1
            called.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            await called.wait()
            assert calls == 2
        os.kill(os.getpid(), signal.SIGHUP)
    assert calls == 2
    assert signal.getsignal(signal.SIGHUP) is before


@pytest.mark.parametrize(
    ("before", "after", "shown_as"),
    [("INFO", "ERROR", "INFO"), ("ERROR", "DEBUG", "INFO"), ("WARNING", "ERROR", "WARNING")],
)
def test_whoever_asked_sees_the_answer(
    before: str, after: str, shown_as: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.getLevelName(before))
    old = Settings(server=ServerSettings(log_level=before))  # type: ignore[arg-type]
    new = Settings(server=ServerSettings(log_level=after))  # type: ignore[arg-type]
    try:
        Reload(lambda: new, old, Access(old)).run(None)
        assert logging.getLevelName(root.level) == after
    finally:
        root.setLevel(before)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (shown_as, f"Reloaded: certificates, tokens (0), log level {after}")
    ]


def test_a_new_secret_voids_signed_tokens_and_a_mistake_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    given = AccessSettings(tokens=(TokenSettings(token=TOKEN, scopes=("send",)),), token_secret="x" * 32)
    settings = Settings(access=given)
    access = Access(settings)
    mistake = ConfigError("config.json: a line")

    def read() -> Settings:
        raise mistake

    Reload(read, settings, access).run(None)
    assert access.wants_tokens
    assert access._check(TOKEN) is not None
    emptied = msgspec.structs.replace(settings, access=AccessSettings())
    Reload(lambda: emptied, settings, access).run(None)
    assert not access.wants_tokens
    assert [record.getMessage() for record in caplog.records] == [
        "Nothing is reloaded: config.json: a line",
        "Reloaded: certificates, tokens (0), log level INFO",
    ]
