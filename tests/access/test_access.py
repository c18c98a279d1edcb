"""Origins, tokens and ingress, asked over real sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import jwt
import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer, make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ports import free_port
from voice_streaming.access import wrong_tokens
from voice_streaming.access.access import MOST_ORIGINS_LOGGED, Access
from voice_streaming.access.tokens import new_token
from voice_streaming.settings.model import AccessSettings, ServerSettings, Settings, TokenSettings
from voice_streaming.streams.grants import Scope

SECRET = "a secret of more than thirty-two characters"
OPAQUE = "correct-horse-battery"
SETTINGS = AccessSettings(
    token_secret=SECRET,
    tokens=(TokenSettings(OPAQUE, ("send", "receive"), ("kitchen",)), TokenSettings("administrators-only", ("admin",))),
)


class AccessServer:
    """A server with one route for each question to `Access`."""

    def __init__(self, access: Access, base: str) -> None:
        self.access = access
        self.base = base

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        async with (
            ClientSession() as http,
            http.request(method, self.base + path, headers={k.replace("_", "-"): v for k, v in headers.items()}) as got,
        ):
            if got.status == 401:
                assert got.headers["WWW-Authenticate"].startswith("Bearer ")
            return got.status, await got.text()


@asynccontextmanager
async def access_server(
    settings: AccessSettings, *, as_ingress: bool = False, names: tuple[str, ...] = (), tls_names: tuple[str, ...] = ()
) -> AsyncIterator[AccessServer]:
    port = free_port()
    server = ServerSettings(ingress_port=port if as_ingress else 0, names=names, tls_names=tls_names)
    access = Access(Settings(server=server, access=settings))

    async def grant(request: web.Request) -> web.Response:
        found = access.grant(request)
        return web.Response(text=f"{sorted(s.value for s in found.scopes)} {sorted(found.streams or ['any'])}")

    async def require(request: web.Request) -> web.Response:
        access.require(request, Scope(request.match_info["scope"]), request.match_info["stream"])
        return web.Response(text="welcome")

    async def origin(request: web.Request) -> web.Response:
        access.check_origin(request)
        return web.Response(text=access.client_address(request))

    async def route(request: web.Request) -> web.Response:
        return web.Response(text=" ".join(access.route(request)))

    app = web.Application(middlewares=[access.guard])
    app.add_routes(
        [
            web.get("/grant", grant),
            web.get("/require/{scope}/{stream}", require),
            web.get("/origin", origin),
            web.get("/route", route),
        ]
    )
    async with TestServer(app, port=port) as running:
        yield AccessServer(access, f"http://127.0.0.1:{running.port}")


# Origins


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "status"),
    [
        ("http://box:8080", "box:8080", (), 200),
        ("https://BOX:8123", "box:8080", (), 200),  # any port, any scheme: Home Assistant on the same machine
        ("https://[fd00::1]:8123", "[fd00::1]:8080", (), 200),
        ("https://evil.example", "box:8080", (), 403),
        ("https://box.evil.example", "box:8080", (), 403),
        ("https://evil.example/box", "box:8080", (), 403),
        ("https://box@evil.example", "box:8080", (), 403),
        ("null", "box:8080", (), 403),
        ("null", "", (), 403),
        ("", "box:8080", (), 403),
        ("http://[half", "box:8080", (), 403),
        ("https://home.example:8123", "box:8080", ("https://Home.example:8123",), 200),
        ("https://home.example:9999", "box:8080", ("https://home.example:8123",), 403),
        ("https://evil.example", "box:8080", ("*",), 200),
    ],
)
async def test_pages_of_other_hosts_are_refused(origin: str, host: str, allowed: tuple[str, ...], status: int) -> None:
    async with access_server(AccessSettings(allowed_origins=allowed)) as asked:
        assert (await asked.get("/origin", Origin=origin, Host=host))[0] == status
        assert asked.access.foreign_origins == (status == 403)


async def test_a_client_without_an_origin_is_native_and_welcome() -> None:
    async with access_server(AccessSettings()) as asked:
        assert await asked.get("/origin") == (200, "127.0.0.1")


async def test_foreign_pages_change_nothing_but_may_get_what_is_open() -> None:
    async with access_server(AccessSettings()) as asked:
        assert (await asked.get("/grant", Origin="https://evil.example"))[0] == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await asked.get("/grant", method, Origin="https://evil.example"))[0] == 403
            assert (await asked.get("/grant", method, Origin=asked.base))[0] == 405


# Ingress


INGRESS_HEADERS = {
    "X-Forwarded-For": "192.168.1.77, 172.30.32.1",
    "X-Forwarded-Host": "home.example:8123",
    "X-Remote-User-Id": "someone",
}


async def test_ingress_headers_are_believed_from_its_address() -> None:
    async with access_server(msgspec.structs.replace(SETTINGS, ingress_address="127.0.0.1"), as_ingress=True) as asked:
        headers = {**INGRESS_HEADERS, "Origin": "https://home.example:8123"}
        assert await asked.get("/origin", **headers) == (200, "192.168.1.77")
        assert await asked.get("/grant", **headers) == (200, "['receive', 'send'] ['any']")
        del headers["X-Remote-User-Id"]
        assert (await asked.get("/grant", **headers))[0] == 401


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("192.0.2.7, 172.30.32.1", "192.0.2.7"),
        ("198.51.100.1, 192.0.2.7, 172.30.32.1", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
async def test_a_client_behind_ingress_is_who_home_assistant_saw(forwarded_for: str, address: str) -> None:
    def access_at(ingress_port: int) -> Access:
        access = AccessSettings(ingress_address="172.30.32.2")
        return Access(Settings(access=access, server=ServerSettings(ingress_port=ingress_port)))

    addresses = {"sockname": ("172.30.33.4", 8099), "peername": ("172.30.32.2", 40_000)}
    transport = Mock(get_extra_info=lambda name, default=None: addresses.get(name, default))
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}
    request = make_mocked_request("GET", "/", headers=headers, transport=transport)
    assert access_at(8099).client_address(request) == address
    assert access_at(8098).client_address(request) == "172.30.32.2"


async def test_ingress_headers_of_others_count_for_nothing() -> None:
    for address, as_ingress in (("172.30.32.2", True), ("127.0.0.1", False), ("", True)):
        async with access_server(
            msgspec.structs.replace(SETTINGS, ingress_address=address), as_ingress=as_ingress
        ) as asked:
            assert (await asked.get("/grant", **INGRESS_HEADERS))[0] == 401
            assert (await asked.get("/origin", **INGRESS_HEADERS, Origin="https://home.example"))[0] == 403
            assert await asked.get("/origin", **INGRESS_HEADERS) == (200, "127.0.0.1")


# Tokens


async def test_without_tokens_everybody_may_do_everything() -> None:
    async with access_server(AccessSettings()) as asked:
        assert await asked.get("/require/admin/kitchen") == (200, "welcome")
        assert not asked.access.wants_tokens


async def test_a_token_comes_in_a_header_or_in_the_address() -> None:
    async with access_server(SETTINGS) as asked:
        expected = 200, "['receive', 'send'] ['kitchen']"
        assert await asked.get(f"/grant?token={OPAQUE}") == expected
        assert await asked.get("/grant", Authorization=f"Bearer {OPAQUE}") == expected
        assert await asked.get("/grant", Authorization=f"bearer  {OPAQUE}") == expected


async def test_scopes_and_streams_are_distinguished() -> None:
    async with access_server(SETTINGS) as asked:
        assert (await asked.get(f"/require/receive/kitchen?token={OPAQUE}"))[0] == 200
        assert (await asked.get(f"/require/receive/bedroom?token={OPAQUE}"))[0] == 403
        assert (await asked.get(f"/require/admin/kitchen?token={OPAQUE}"))[0] == 403
        assert (await asked.get("/require/admin/kitchen?token=administrators-only"))[0] == 200
        assert asked.access.unauthorized == 2


async def test_a_printed_token_is_as_good_until_its_end() -> None:
    async with access_server(SETTINGS) as asked:
        token = new_token(SECRET, ["receive"], ["Küche"], days=1)
        assert await asked.get("/grant", Authorization=f"Bearer {token}") == (200, "['receive'] ['Küche']")
        everywhere = new_token(SECRET, ["receive", "admin"], [], days=1)
        assert await asked.get(f"/grant?token={everywhere}") == (200, "['admin', 'receive'] ['any']")
        assert (await asked.get(f"/grant?token={new_token(SECRET, ['receive'], [], days=-1)}"))[0] == 401


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"scope": "send", "exp": time.time() + 60, **claims}, secret, algorithm=algorithm)


async def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    async with access_server(SETTINGS) as asked:
        assert (await asked.get(f"/grant?token={signed(iat=time.time() + 3600)}"))[0] == 200


@pytest.mark.parametrize(
    "token",
    [
        "",
        "wrong",
        OPAQUE[:-1],
        OPAQUE + "x",
        OPAQUE.upper(),
        "a.b.c",
        "%C3%A4",
        "%FF%FE",
        "%00",
        "x" * 5000,
        signed(secret="another secret of more than thirty-two characters"),
        signed(algorithm="HS512", secret=SECRET * 2),
        jwt.encode({"scope": "send"}, "", algorithm="none"),
        signed(scope="everything"),
        signed(scope=None),
        signed(scope=["send"]),
        signed(streams="kitchen"),
        signed(streams=[1]),
        signed(streams=7),
        signed(aud="another service"),
        # A header that is nested deeper than Python's JSON reader can follow.
        jwt.utils.base64url_encode(b"[" * 4000).decode() + ".e30.AA",
    ],
)
async def test_what_is_not_one_of_the_tokens_is_refused_and_not_shown(token: str) -> None:
    async with access_server(SETTINGS) as asked:
        status, text = await asked.get(f"/grant?token={token}")
        assert status == 401
        assert not token or token not in text
        if "%" not in token and token:
            assert (await asked.get("/grant", Authorization=f"Bearer {token}"))[0] == 401


async def test_a_token_for_no_stream_covers_none() -> None:
    async with access_server(SETTINGS) as asked:
        assert (await asked.get(f"/require/send/kitchen?token={signed(streams=[])}"))[0] == 403


@given(st.text())
def test_no_text_is_a_token_by_accident(text: str) -> None:
    if text not in (OPAQUE, "administrators-only"):
        assert Access(Settings(access=SETTINGS))._check(text) is None


async def test_ten_wrong_tokens_make_answers_slower_and_one_line_of_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wrong_tokens, "DELAY_S", 1.5)
    async with access_server(SETTINGS) as asked:
        for number in range(9):
            assert (await asked.get(f"/grant?token=guess-number-{number}"))[0] == 401
        assert caplog.messages == []
        for number in (9, 10):
            begun_s = time.monotonic()
            assert (await asked.get(f"/grant?token=guess-number-{number}"))[0] == 401
            assert time.monotonic() - begun_s >= 1.5
        assert caplog.messages == ["10 wrong tokens from 127.0.0.1"]
        # Who sends none, or a good one, does not wait.
        begun_s = time.monotonic()
        assert (await asked.get("/grant"))[0] == 401
        assert (await asked.get(f"/grant?token={OPAQUE}"))[0] == 200
        assert time.monotonic() - begun_s < 1.5


# Proxies and names


FORWARDED = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Host": "voice.example.com", "X-Forwarded-Proto": "https"}


async def test_a_trusted_proxy_says_who_asks_and_for_what() -> None:
    async with access_server(AccessSettings(trusted_proxies=("127.0.0.0/8",))) as asked:
        assert await asked.get("/route", **FORWARDED) == (200, "198.51.100.7 voice.example.com https")
        assert await asked.get("/origin", **FORWARDED, Origin="https://voice.example.com") == (200, "198.51.100.7")
        assert (await asked.get("/origin", **FORWARDED, Origin="https://evil.example"))[0] == 403


async def test_a_proxy_that_nobody_named_is_a_client_like_any_other() -> None:
    async with access_server(AccessSettings(trusted_proxies=("192.0.2.0/24",))) as asked:
        status, text = await asked.get("/origin", **FORWARDED, Origin="https://voice.example.com")
        assert status == 403
        assert "access.allowed_origins" in text
        assert "access.trusted_proxies" in text
        assert await asked.get("/origin", **FORWARDED) == (200, "127.0.0.1")


async def test_a_page_that_is_refused_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with access_server(AccessSettings()) as asked:
        for _ in range(3):
            await asked.get("/origin", Origin="https://voice.example.com")
        for number in range(100):
            await asked.get("/origin", Origin=f"https://{number}.example.com")
    assert "'https://voice.example.com'" in caplog.messages[0]
    assert "access.allowed_origins" in caplog.messages[0]
    assert len(caplog.messages) == MOST_ORIGINS_LOGGED


async def test_a_public_name_that_is_not_configured_is_refused() -> None:
    async with access_server(AccessSettings(), names=("voice.example.com",), tls_names=("box.example.com",)) as asked:
        for host in ("voice.example.com", "box.example.com:8080", "127.0.0.1", "box", "box.local"):
            assert (await asked.get("/grant", Host=host))[0] == 200
        assert asked.access.foreign_hosts == 0
        for method in ("GET", "POST"):
            status, text = await asked.get(
                "/grant", method, Host="evil.example:8080", Origin="http://evil.example:8080"
            )
            assert status == 421
            assert "'evil.example:8080'" in text
            assert "server.names" in text
        assert asked.access.foreign_hosts == 2


async def test_a_trusted_proxy_vouches_for_its_names_and_ingress_for_home_assistants() -> None:
    async with access_server(AccessSettings(trusted_proxies=("127.0.0.1",))) as asked:
        assert (await asked.get("/grant", Host="voice.example.com"))[0] == 200
    async with access_server(AccessSettings(ingress_address="127.0.0.1"), as_ingress=True) as asked:
        assert (await asked.get("/grant", Host="home.example.com"))[0] == 200
