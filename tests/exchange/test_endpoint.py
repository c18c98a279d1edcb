"""The client of one endpoint, against servers that do what the documents allow, and what they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.ports import free_port
from voice_streaming.exchange import endpoint as endpoint_module
from voice_streaming.exchange.endpoint import MAX_ANSWER_BYTES, Endpoint, EndpointError
from voice_streaming.network.local_certificates import LocalCertificates
from voice_streaming.settings.model import ConfigError

TOKEN = "the-token-of-the-barn"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Remote:
    """A server of WHEP that records what it is asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, str, str | None, str]] = []
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._record)
        self.server = TestServer(application, host="127.0.0.1")
        self._answer = answer

    async def _record(self, request: web.Request) -> web.StreamResponse:
        line = (request.method, request.path_qs, request.headers.get("Authorization"), await request.text())
        self.asked.append(line)
        return await self._answer(request) if request.method == "POST" else web.Response()


@asynccontextmanager
async def remote(answer: Answer) -> AsyncIterator[Remote]:
    one = Remote(answer)
    async with one.server:
        yield one


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def created(location: str, body: str = "v=0\r\n") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, text=body, content_type="application/sdp", headers={"Location": location})

    return answer


def redirecting(status: int, location: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/whep/barn":
            return web.Response(status=status, headers={"Location": location})
        return await created("session")(request)

    return answer


async def test_a_session_is_begun_with_the_token_and_deleted(http: aiohttp.ClientSession) -> None:
    async with remote(created("sessions/1?key=a%2Fb")) as one:
        endpoint = Endpoint(str(one.server.make_url("/whep/barn?key=secret")), TOKEN)
        session = await endpoint.begin(http, "the offer")
        assert session.answer == "v=0\r\n"
        await endpoint.end(http, session)
        bearer = f"Bearer {TOKEN}"
        assert one.asked == [
            ("POST", "/whep/barn?key=secret", bearer, "the offer"),
            ("DELETE", "/whep/sessions/1?key=a%2Fb", bearer, ""),
        ]
        assert endpoint.origin == str(one.server.make_url("/")).rstrip("/")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_on_the_same_host_is_followed(http: aiohttp.ClientSession, status: int) -> None:
    async with remote(redirecting(status, "/other?x=1")) as one:
        session = await Endpoint(str(one.server.make_url("/whep/barn"))).begin(http, "the offer")
        assert [path for _, path, _, _ in one.asked] == ["/whep/barn", "/other?x=1"]
        assert session.url == one.server.make_url("/session")


async def test_no_other_host_is_ever_asked(http: aiohttp.ClientSession) -> None:
    async with remote(created("x")) as other:
        elsewhere = str(other.server.make_url("/whep/barn"))
        async with remote(redirecting(307, elsewhere)) as one:
            with pytest.raises(EndpointError, match="another host"):
                await Endpoint(str(one.server.make_url("/whep/barn")), TOKEN).begin(http, "the offer")
        async with remote(created(elsewhere)) as one:
            endpoint = Endpoint(str(one.server.make_url("/whep/barn")), TOKEN)
            session = await endpoint.begin(http, "the offer")
            assert session.url is None
            await endpoint.end(http, session)
        assert other.asked == []


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s"),
    [
        (409, {"Retry-After": "5"}, 5),
        (503, {}, 0),
        (401, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        (302, {"Location": "/other"}, 0),
    ],
)
async def test_a_refusal_says_what_was_answered(
    http: aiohttp.ClientSession, status: int, headers: dict[str, str], retry_after_s: float
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    async with remote(answer) as one:
        with pytest.raises(EndpointError, match=f"It answered {status}") as refused:
            await Endpoint(str(one.server.make_url("/whep/barn"))).begin(http, "the offer")
        assert (refused.value.has_answered, refused.value.retry_after_s) == (True, retry_after_s)
        assert len(one.asked) == 1


async def test_what_a_server_should_not_do_is_an_error_without_a_secret(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    monkeypatch.setattr(endpoint_module, "POST_TIMEOUT_S", 2.0)
    path = "/whep/barn?key=secret"
    for answer, says in (
        (created("x", "v" * (MAX_ANSWER_BYTES + 1)), "too long"),
        (redirecting(308, "/whep/barn"), "too often"),
        (redirecting(308, "http://[bad"), "another host"),
        (never, "The request failed"),
    ):
        async with remote(answer) as one:
            with pytest.raises(EndpointError, match=says) as failed:
                await Endpoint(str(one.server.make_url(path)), TOKEN).begin(http, "the offer")
            assert "secret" not in str(failed.value)
    # Nobody listens there.
    url = f"http://127.0.0.1:{free_port()}{path}"
    with pytest.raises(EndpointError, match="Cannot connect") as failed:
        await Endpoint(url, TOKEN).begin(http, "the offer")
    assert not failed.value.has_answered
    assert "secret" not in str(failed.value)


async def test_certificates_are_verified_with_the_authorities_of_ca_file(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    certificates = LocalCertificates(tmp_path / "tls", lambda: ["127.0.0.1"])
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(certificates.authority_pem())
    one = Remote(created("session"))
    await one.server.start_server(ssl=certificates.context())
    async with one.server:
        url = f"https://127.0.0.1:{one.server.port}/whep/barn"
        trusting = Endpoint(url, TOKEN, str(ca_file))
        await trusting.end(http, await trusting.begin(http, "the offer"))
        assert [method for method, *_ in one.asked] == ["POST", "DELETE"]
        one.asked.clear()
        with pytest.raises(EndpointError, match="certificate verify failed"):
            await Endpoint(url, TOKEN).begin(http, "the offer")
        assert one.asked == []


def test_authorities_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ConfigError, match=r'ca_file is "/nowhere\.pem": No such file'):
        Endpoint("https://box/whep/barn", ca_file="/nowhere.pem")
