"""The ports under Network on the add-on's page. The Supervisor is a mock: it runs in Home Assistant only."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.ports import free_port
from tests.support.server import running_server
from tests.support.supervisor import TOKEN, MockSupervisor, mock_supervisor
from voice_streaming.network.supervisor import Supervisor, SupervisorError, chosen_ports


async def test_mock_supervisors_ports_are_settings() -> None:
    network = {"8080/tcp": 8880, "8081/tcp": 8881, "8443/tcp": 8843}
    async with mock_supervisor(network) as supervisor:
        ports = await asyncio.to_thread(Supervisor(supervisor.url, TOKEN).network_ports)
    assert ports == {"server.port": 8880, "audio.port": 8881, "server.tls_port": 8843}


@pytest.mark.parametrize("network", [None, {}, {"8080/tcp": None}, {"53/udp": 53}])
async def test_ports_that_the_user_left_empty_are_the_usual_ones(network: dict[str, int | None] | None) -> None:
    async with mock_supervisor(network) as supervisor:
        assert await asyncio.to_thread(Supervisor(supervisor.url, TOKEN).network_ports) == {}


@pytest.mark.parametrize("network", [{"8080/tcp": "many"}, "no object", 7])
async def test_nonsense_is_an_error_and_no_crash(network: object) -> None:
    async with mock_supervisor(network) as supervisor:  # type: ignore[arg-type]
        with pytest.raises(SupervisorError):
            await asyncio.to_thread(Supervisor(supervisor.url, TOKEN).network_ports)


async def test_a_wrong_token_is_an_error_that_does_not_show_it() -> None:
    async with mock_supervisor({}) as supervisor:
        with pytest.raises(SupervisorError) as caught:
            await asyncio.to_thread(Supervisor(supervisor.url, "wrong-token").network_ports)
    assert "wrong-token" not in str(caught.value)


def test_outside_of_home_assistant_nobody_is_asked() -> None:
    assert chosen_ports({}) == {}


def test_a_silent_supervisor_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen_ports(MockSupervisor(free_port()).environment) == {}
    assert "does not tell the ports" in caplog.text


async def test_server_opens_the_ports_of_the_mock_supervisor() -> None:
    """The port of the configuration file is overruled: with it alone, /health would not answer at the chosen one."""
    chosen = free_port()
    async with (
        mock_supervisor({"8081/tcp": chosen}) as supervisor,
        running_server(environment=supervisor.environment) as server,
    ):
        assert server.audio_port != chosen
        await server.process.wait_for_log(f":{chosen}/stream/latest.mp3")
