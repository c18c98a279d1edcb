"""What proxies say, and when it is believed."""

from __future__ import annotations

import pytest
from aiohttp import hdrs
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from voice_streaming.access.forwarded import Route, TrustedProxies

PROXIES = TrustedProxies(["192.0.2.0/24", "2001:db8::/32"])
DIRECT = Route("192.0.2.1", "127.0.0.1:8080", "http")


def route(*headers: tuple[str, str], remote: str = "192.0.2.1", proxies: TrustedProxies = PROXIES) -> Route:
    sent = CIMultiDict([(hdrs.HOST, "127.0.0.1:8080"), *headers])
    request = make_mocked_request("GET", "/", sent).clone(remote=remote)
    return proxies.route(request)


COMMON = (
    ("X-Forwarded-For", "198.51.100.7"),
    ("X-Forwarded-Host", "voice.example.com"),
    ("X-Forwarded-Proto", "https"),
)
STANDARD = ("Forwarded", 'for=198.51.100.7; proto=https;host="voice.example.com"')
SAID = Route("198.51.100.7", "voice.example.com", "https")


def test_both_kinds_of_headers_are_believed_from_a_trusted_proxy() -> None:
    assert route(*COMMON) == SAID
    assert route(STANDARD) == SAID
    assert route(*COMMON, STANDARD) == SAID
    assert route(*COMMON, remote="2001:db8::7") == SAID
    assert route(*COMMON, remote="::ffff:192.0.2.1") == SAID


def test_nothing_is_believed_from_anybody_else() -> None:
    for remote in ("198.51.100.1", "::1", ""):
        assert route(*COMMON, STANDARD, remote=remote) == DIRECT._replace(address=remote)
    assert route(*COMMON, STANDARD, proxies=TrustedProxies([])) == DIRECT


def test_without_headers_the_proxy_is_the_client() -> None:
    assert route() == DIRECT


def test_two_kinds_that_disagree_are_both_not_believed() -> None:
    assert route(*COMMON, ("Forwarded", "for=203.0.113.9")) == DIRECT


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("203.0.113.9, 198.51.100.7", "198.51.100.7"),  # The client wrote the first one itself.
        ("198.51.100.7, 192.0.2.8", "198.51.100.7"),  # Two trusted proxies.
        ("203.0.113.9, 198.51.100.7, 192.0.2.8, 192.0.2.9", "198.51.100.7"),
        ("192.0.2.5", "192.0.2.5"),  # A client on the proxies' own network.
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:470::1]:4711", "2001:470::1"),
        ("2001:470::1", "2001:470::1"),
        ("unknown", "192.0.2.1"),
        ("203.0.113.9, unknown, 192.0.2.8", "192.0.2.8"),
        ("", "192.0.2.1"),
        ("', DROP TABLE", "192.0.2.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(value: str, address: str) -> None:
    assert route(("X-Forwarded-For", value)).address == address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 7239 sections 4 and 7.5.
        ('For="[2001:470:cafe::17]:4711"', Route("2001:470:cafe::17", "127.0.0.1:8080", "http")),
        ("for=203.0.113.43, for=198.51.100.17", Route("198.51.100.17", "127.0.0.1:8080", "http")),
        ("for=203.0.113.60;proto=https;by=192.0.2.1", Route("203.0.113.60", "127.0.0.1:8080", "https")),
        ("for=198.51.100.7;host=a.lan, for=192.0.2.8;host=b.lan", Route("198.51.100.7", "a.lan", "http")),
        ("for=_gazonk;host=a.lan", Route("192.0.2.1", "a.lan", "http")),
        ('for="198.51.100\\.7"', Route("198.51.100.7", "127.0.0.1:8080", "http")),
        ('for=198.51.100.7;host="a b"', Route("198.51.100.7", "127.0.0.1:8080", "http")),
        ("nonsense", DIRECT),
        ('for="198.51.100.7', DIRECT),
        (", ".join(["for=198.51.100.7"] * 1000), DIRECT),
    ],
)
def test_forwarded_is_read_as_its_rfc_has_it(value: str, expected: Route) -> None:
    assert route(("Forwarded", value)) == expected


def test_the_host_is_that_of_the_clients_proxy() -> None:
    chain = ("X-Forwarded-For", "198.51.100.7, 192.0.2.8")
    assert route(chain, ("X-Forwarded-Host", "voice.example.com, inner.lan")).host == "voice.example.com"
    assert route(chain, ("X-Forwarded-Host", "voice.example.com")).host == "voice.example.com"
    assert route(("X-Forwarded-Host", "voice.example.com")).host == "voice.example.com"
    assert route(("X-Forwarded-Proto", "wss")).scheme == "https"
    assert route(("X-Forwarded-Proto", "gopher")).scheme == "http"


@given(st.text(), st.text(), st.text())
def test_no_text_is_more_than_an_address_a_host_and_a_scheme(addresses: str, host: str, standard: str) -> None:
    headers = [("X-Forwarded-For", addresses), ("X-Forwarded-Host", host), ("Forwarded", standard)]
    found = route(*headers)
    assert found.scheme in ("http", "https")
    assert set(found.address) <= set("0123456789abcdef.:")
    assert found.host.isascii()
    assert found.host.isprintable()
