"""Announcements: on the LAN, seen by a second zeroconf instance on loopback, and to a Supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.supervisor import TOKEN, MockSupervisor, mock_supervisor
from voice_streaming import __version__
from voice_streaming.network import discovery
from voice_streaming.network.discovery import (
    SERVICE_TYPE,
    announce_on_lan,
    announce_to_supervisor,
    announced_addresses,
)
from voice_streaming.network.supervisor import Supervisor
from voice_streaming.process.failures import Failures
from voice_streaming.settings.model import DiscoverySettings, ServerSettings, Settings

LOOPBACK = "127.0.0.1"


class Browser:
    """What another machine sees."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf
        self._names: set[str] = set()
        self._changed = asyncio.Event()

    def on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self._names.discard(name)
        else:
            self._names.add(name)
        self._changed.set()

    async def find(self, port: int, timeout_s: float = 15) -> AsyncServiceInfo:
        """The service with that port; others of this machine are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                for name in list(self._names):
                    info = await self._zeroconf.async_get_service_info(SERVICE_TYPE, name)
                    if info is not None and info.port == port:
                        return info
                await self._wait()

    async def expect_gone(self, name: str, timeout_s: float = 10) -> None:
        async with asyncio.timeout(timeout_s):
            while name in self._names:
                await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    zeroconf = AsyncZeroconf(interfaces=[LOOPBACK])
    browser = Browser(zeroconf)
    search = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE_TYPE, handlers=[browser.on_change])
    try:
        yield browser
    finally:
        await search.async_cancel()
        await zeroconf.async_close()


async def test_server_announces_itself_and_says_goodbye() -> None:
    async with (
        browsing() as browser,
        running_server({"discovery": {"lan": True, "addresses": [LOOPBACK]}}) as server,
    ):
        info = await browser.find(server.port)
        assert info.parsed_addresses() == [LOOPBACK]
        assert info.decoded_properties == {
            "version": __version__,
            "audio_port": str(server.audio_port),
            "id": (server.directory / "voice-streaming" / "server-id").read_text().strip(),
        }
        assert info.server == f"voice-streaming-{info.decoded_properties['id']}.local."
        await server.stop()
        await browser.expect_gone(info.name)


async def test_tls_port_is_announced_where_there_is_one() -> None:
    port, tls_port = free_port(), free_port()
    settings = Settings(
        server=ServerSettings(port=port, tls_port=tls_port), discovery=DiscoverySettings(addresses=(LOOPBACK,))
    )
    async with browsing() as browser:
        announcing = asyncio.create_task(announce_on_lan(settings, with_tls=True))
        info = await browser.find(port)
        assert info.decoded_properties["tls_port"] == str(tls_port)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        await browser.expect_gone(info.name)


async def test_two_servers_on_one_machine_have_names_of_their_own() -> None:
    settings = [
        Settings(server=ServerSettings(port=free_port()), discovery=DiscoverySettings(addresses=(LOOPBACK,)))
        for _ in range(2)
    ]
    async with browsing() as browser:
        announcing, found = [], []
        for each in settings:
            announcing.append(asyncio.create_task(announce_on_lan(each, with_tls=False)))
            found.append(await browser.find(each.server.port))
        assert found[0].name != found[1].name
        for task in announcing:
            task.cancel()
        await asyncio.gather(*announcing, return_exceptions=True)


async def test_a_new_address_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []
    asked = asyncio.Event()

    def present_addresses(host: str) -> list[str]:
        asked.set()
        return list(addresses)

    monkeypatch.setattr(discovery, "addresses_listened_on", present_addresses)
    monkeypatch.setattr(discovery, "CHECK_INTERVAL_S", 0.05)
    settings = Settings(server=ServerSettings(port=free_port()))
    async with browsing() as browser:
        announcing = asyncio.create_task(announce_on_lan(settings, with_tls=False))
        await asked.wait()
        addresses.append(LOOPBACK)
        assert (await browser.find(settings.server.port)).parsed_addresses() == [LOOPBACK]
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)


async def test_an_address_that_cannot_be_used_is_a_warning_and_no_more() -> None:
    async with running_server({"discovery": {"lan": True, "addresses": ["203.0.113.7"]}}) as server:
        line = await server.process.wait_for_log("discovery.lan")
        assert "WARNING" in line


async def test_a_server_for_this_machine_alone_announces_nothing() -> None:
    assert announced_addresses(Settings(server=ServerSettings(host=LOOPBACK))) == []
    assert announced_addresses(Settings(server=ServerSettings(host="localhost"))) == []
    assert announced_addresses(Settings(server=ServerSettings(host="192.0.2.9"))) == ["192.0.2.9"]


async def test_lan_announcement_can_be_switched_off() -> None:
    work = discovery.announcements(Settings(discovery=DiscoverySettings(lan=False)), False, {})
    assert work == {}


# A Supervisor does not run outside of Home Assistant: tests.support.supervisor is a mock of its two answers.


async def test_mock_supervisor_gets_the_servers_address() -> None:
    async with mock_supervisor() as supervisor, running_server(environment=supervisor.environment) as server:
        announced = await supervisor.announced()
        assert announced == {
            "service": "voice_streaming",
            "config": {
                "host": LOOPBACK,
                "port": server.port,
                "audio_port": server.audio_port,
                "version": __version__,
                "id": (server.directory / "voice-streaming" / "server-id").read_text().strip(),
            },
        }


async def test_mock_supervisor_that_starts_late_gets_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SUPERVISOR_RETRIES_S", (0.01, 0.01))
    async with mock_supervisor(refusals=2) as supervisor:
        await announce_to_supervisor(Settings(), False, Supervisor(supervisor.url, TOKEN))
        assert (await supervisor.announced())["service"] == "voice_streaming"


async def test_mock_supervisor_that_always_refuses_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discovery, "SUPERVISOR_RETRIES_S", (0.01,))
    async with mock_supervisor(refusals=9) as supervisor:
        await announce_to_supervisor(Settings(), False, Supervisor(supervisor.url, TOKEN))
    assert "discovery.home_assistant" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_silent_supervisor_does_not_keep_the_server_from_starting() -> None:
    nobody = MockSupervisor(free_port())
    async with running_server(environment=nobody.environment) as server:
        await server.process.wait_for_log("The usual ones are used")


async def test_an_announcement_that_is_not_possible_is_a_problem_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHECK_INTERVAL_S", 0.01)
    settings = Settings(discovery=DiscoverySettings(addresses=(LOOPBACK,)))
    failures = Failures()
    held: list[dict[str, str]] = []
    published = asyncio.Event()

    async def fail_twice(announcement: discovery.Announcement) -> None:
        held.append(failures.problems)
        if len(held) < 3:
            raise OSError(19, "No such device")
        published.set()

    monkeypatch.setattr(discovery.Announcement, "publish", fail_twice)
    announcing = asyncio.create_task(announce_on_lan(settings, False, failures=failures))
    await published.wait()
    announcing.cancel()
    await asyncio.gather(announcing, return_exceptions=True)
    problem = {"announce-on-lan": "OSError(19, 'No such device')"}
    assert held == [{}, problem, problem]
    assert failures.problems == {}
