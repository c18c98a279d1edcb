"""WHIP and WHEP over HTTPS, and below the path of a reverse proxy: what `Location` names is asked there."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ingress import ingress
from tests.support.ports import free_port
from tests.support.proxies import PREFIX, haproxy, nginx, nginx_with_headers
from tests.support.server import RunningServer, running_server
from tests.support.signalling import signalling
from tests.support.stage import PAYLOADS
from tests.support.trust import download_authority
from tests.support.whip_client import FRAGMENT, WhipClient, whip_client
from tests.support.whip_peers import playing, publishing, receivers_become

FROM_HERE = {"access": {"ingress_address": "127.0.0.1"}}
"""The proxy's address, where Home Assistant's is 172.30.32.2."""

TRUSTED = {"access": {"trusted_proxies": ["127.0.0.1"]}}


@dataclass
class Way:
    """To a server, whose paths begin with `prefix` there."""

    server: RunningServer
    web: WhipClient
    prefix: str


@asynccontextmanager
async def over_https(folder: Path) -> AsyncIterator[Way]:
    tls_port, authority = free_port(), folder / "ca.crt"
    settings = {"tls": "auto", "tls_port": tls_port, "data_dir": str(folder / "data")}
    async with running_server({"server": settings}) as server:
        await download_authority(server, authority)
        context = ssl.create_default_context(cafile=authority)
        async with whip_client(f"https://127.0.0.1:{tls_port}/", trusting=context) as web:
            yield Way(server, web, "")


@asynccontextmanager
async def behind_ingress(_: Path) -> AsyncIterator[Way]:
    port = free_port()
    async with (
        running_server(FROM_HERE, environment={"INGRESS_PORT": str(port)}) as server,
        ingress(port) as proxy,
        whip_client(proxy.home, cookies=proxy.cookies) as web,
    ):
        yield Way(server, web, proxy.path)


@asynccontextmanager
async def behind_nginx(_: Path) -> AsyncIterator[Way]:
    """Below a path, as docs/proxies.md has it."""
    async with (
        running_server(TRUSTED) as server,
        nginx(server.port, nginx_with_headers(prefix=PREFIX)) as port,
        whip_client(f"http://127.0.0.1:{port}/") as web,
    ):
        yield Way(server, web, PREFIX)


@asynccontextmanager
async def behind_haproxy(_: Path) -> AsyncIterator[Way]:
    async with (
        running_server(TRUSTED) as server,
        haproxy(server.port) as port,
        whip_client(f"http://127.0.0.1:{port}/") as web,
    ):
        yield Way(server, web, PREFIX)


WAYS = {
    "HTTPS": over_https,
    "ingress": behind_ingress,
    "nginx": pytest.param(behind_nginx, marks=pytest.mark.e2e),
    "HAProxy": pytest.param(behind_haproxy, marks=pytest.mark.e2e),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_a_voice_travels_and_its_sessions_are_patched_and_deleted(
    way: Callable[[Path], AbstractAsyncContextManager[Way]], tmp_path: Path
) -> None:
    async with (
        way(tmp_path) as there,
        signalling(there.server.ws_url) as watcher,
        publishing(there.web, f"{there.prefix}/whip/kitchen") as (sender, published),
    ):
        sender.say(PAYLOADS[0])
        await watcher.expect("stream_available", stream_id="kitchen")
        async with playing(there.web, f"{there.prefix}/whep/kitchen") as (player, played):
            await receivers_become(there.server, 1)
            for payload in PAYLOADS[1:]:
                sender.say(payload)
                await asyncio.sleep(0.005)
            await player.packets.wait_for(len(PAYLOADS) - 1)
            assert player.packets.payloads() == PAYLOADS[1:]
            for via, created in (("whep", played), ("whip", published)):
                assert re.fullmatch(rf"{re.escape(there.prefix)}/{via}/sessions/[\w-]{{22}}", created.location)
                tagged = FRAGMENT | {"If-Match": created.headers["ETag"]}
                patched = await there.web.ask("PATCH", created.location, "a=end-of-candidates\r\n", tagged)
                assert patched.status == 204
                assert (await there.web.ask("GET", created.location)).status == 204
                assert (await there.web.ask("DELETE", created.location)).status == 200
        await watcher.expect("stream_ended", stream_id="kitchen", reason="sender left")
