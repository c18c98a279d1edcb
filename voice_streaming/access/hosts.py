"""By which names this server answers.

A web page of anybody's can be opened at a name that its owner points at this server (DNS rebinding). Such a page has
the server's own origin, so only the name tells it apart; and whoever does that needs a name in the public DNS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from ..network.addresses import host_name

PRIVATE_SUFFIXES = (
    # Reserved, so that nobody can have them in the public DNS: RFC 6762, RFC 6761, RFC 8375, ICANN's of 2024-07-29.
    "local",
    "localhost",
    "test",
    "invalid",
    "home.arpa",
    "internal",
    # Used on many networks, and never delegated: RFC 6762 appendix G.
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "localdomain",
    # What routers of AVM and Telekom call the network.
    "fritz.box",
    "speedport.ip",
)

NamesOf = Callable[[], frozenset[str]]


def host_of(address: str) -> str | None:
    """The host's name or address in `box:8080`, `[fd00::1]:8080` or, after `//`, in a URL: lower-case, without a dot at
    its end; None where there is none."""
    try:
        name = urlsplit(address if "//" in address else f"//{address}").hostname
    except ValueError:
        return None
    return name.rstrip(".") or None if name else None


class Hosts:
    """`names` are configured; `certified` gives those of the certificate in use, among them `*.home.example`."""

    def __init__(self, names: Iterable[str], certified: NamesOf = frozenset) -> None:
        self.certified = certified
        self._names = {name.lower().rstrip(".") for name in names}

    def knows(self, host: str) -> bool:
        """Whether this server may be asked by that Host header; players of the nineties send none."""
        if not host:
            return True
        name = host_of(host)
        if name is None:
            return False
        if _is_address(name) or "." not in name or name.endswith(tuple(f".{suffix}" for suffix in PRIVATE_SUFFIXES)):
            return True
        if name in self._names or name == host_name():
            return True
        certified = self.certified()
        return name in certified or f"*.{name.partition('.')[2]}" in certified


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
