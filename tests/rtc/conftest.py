"""Real sockets of 127.0.0.1 and ::1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.rtc.sockets import Client
from voice_streaming.rtc.shared_socket import SharedSocket

LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}


@pytest.fixture(params=LOOPBACK)
def host(request: pytest.FixtureRequest) -> str:
    return LOOPBACK[request.param]


@pytest.fixture
async def shared(host: str) -> AsyncIterator[SharedSocket]:
    one = SharedSocket(host)
    yield one
    one.close()


@pytest.fixture
def client(host: str) -> Iterator[Client]:
    one = Client(host)
    yield one
    one.close()


@pytest.fixture
def new_client() -> Iterator[Callable[[], Client]]:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    yield make
    for one in made:
        one.close()
