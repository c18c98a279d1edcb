"""What reverse proxies say of the requests that they pass on: RFC 7239, and the X-Forwarded headers of before.

Anybody can write these headers, so they are believed only from the networks of `access.trusted_proxies`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from aiohttp import hdrs, web

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""Traefik writes those of WebSockets."""
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,260}")
_PARAMETER = re.compile(r'\s*([A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(;|,|$)')
"""RFC 7239 section 4: a token or a quoted string."""
_MAX_HEADER_CHARACTERS = 4096
"""More than any chain of proxies needs; whatever is longer is not believed."""


class Route(NamedTuple):
    """Where a request came from and what it asked for, as far as those who are trusted say so."""

    address: str
    """The client's."""
    host: str
    """As in a Host header."""
    scheme: str
    """`http` or `https`."""


class _Hop(NamedTuple):
    """What one proxy saw; None is what it does not say."""

    address: str | None = None
    host: str | None = None
    scheme: str | None = None


class TrustedProxies:
    """The networks whose proxies are believed."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def __contains__(self, address: str) -> bool:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)

    def route(self, request: web.Request) -> Route:
        """The request's. Where both kinds of headers are there and name two clients, neither is believed.

        A proxy writes one kind and passes on what its client wrote of the other.
        """
        direct = Route(request.remote or "", request.headers.get(hdrs.HOST, ""), request.scheme)
        if direct.address not in self:
            return direct
        standard = self._walk(direct, _standard_hops(request))
        common = self._walk(direct, _common_hops(request))
        if standard is None or common is None or standard.address == common.address:
            return standard or common or direct
        return direct

    def _walk(self, direct: Route, hops: Sequence[_Hop]) -> Route | None:
        """Goes back over the trusted proxies to the first address that is none; None without any headers."""
        if not hops:
            return None
        address = direct.address
        found = hops[-1]
        for hop in reversed(hops):
            found = hop
            if hop.address is None:
                break
            address = hop.address
            if address not in self:
                break
        return Route(address, found.host or direct.host, found.scheme or direct.scheme)


def _common_hops(request: web.Request) -> list[_Hop]:
    """Of X-Forwarded-For, -Host and -Proto, oldest first. Of the latter two a chain of proxies often has only one."""
    addresses = _list(request, hdrs.X_FORWARDED_FOR)
    hosts = _list(request, hdrs.X_FORWARDED_HOST)
    schemes = _list(request, hdrs.X_FORWARDED_PROTO)
    if not (addresses or hosts or schemes):
        return []
    count = max(1, len(addresses))
    hops = []
    for index in range(count):
        address = _address(addresses[index]) if addresses else None
        from_end = count - index
        hops.append(_Hop(address, _host(_from_end(hosts, from_end)), _scheme(_from_end(schemes, from_end))))
    return hops


def _standard_hops(request: web.Request) -> list[_Hop]:
    """Of `Forwarded` (RFC 7239), oldest first; none where it is not as the RFC has it."""
    text = ",".join(request.headers.getall(hdrs.FORWARDED, ()))
    if not text or len(text) > _MAX_HEADER_CHARACTERS:
        return []
    hops: list[_Hop] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None:
            return []
        parameters[found[1].lower()] = _unquoted(found[2])
        position = found.end()
        if found[3] != ";":
            address = _address(parameters.get("for", ""))
            hops.append(_Hop(address, _host(parameters.get("host")), _scheme(parameters.get("proto"))))
            parameters = {}
    return hops


def _list(request: web.Request, name: str) -> list[str]:
    text = ",".join(request.headers.getall(name, ()))
    return [part.strip() for part in text.split(",")] if text and len(text) <= _MAX_HEADER_CHARACTERS else []


def _from_end(values: Sequence[str], count: int) -> str | None:
    """The value that so many before the end is, or the first one there is."""
    return values[max(0, len(values) - count)] if values else None


def _address(text: str) -> str | None:
    """The IP address of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; None for other nodes."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _host(text: str | None) -> str | None:
    return text if text is not None and _HOST.fullmatch(text) else None


def _scheme(text: str | None) -> str | None:
    return _SCHEMES.get(text.lower()) if text is not None else None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
