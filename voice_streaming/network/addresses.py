"""The addresses and the name of this machine on its networks.

What is listened on, announced, logged, checked and certified comes from here, and so does ICE gathering.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import ifaddr

IPAddress = IPv4Address | IPv6Address

_CONTAINER_INTERFACE = re.compile(r"docker\d+|br-[0-9a-f]{12}|hassio|veth.*|virbr\d+|podman\d+|cni\d+")
"""Names that Docker, Home Assistant's Supervisor, libvirt and Podman give to the bridges that they make on the host.
Only containers and virtual machines of this host are behind them, and those reach its other addresses as well."""

_OUTSIDE_ADDRESSES = ("198.51.100.1", "2001:db8::1")
"""Addresses for documentation (RFC 5737, RFC 3849): never on a LAN, so that the default route leads to them."""

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
"""RFC 1123 section 2.1."""


def lan_addresses() -> list[str]:
    """The addresses at which other machines can reach this one; empty without a network.

    No loopback, no link-local, no container bridge. IPv4 comes before IPv6; within each, the address that the default
    route uses comes first, then private ones (RFC 1918, RFC 4193), then the others: stable from call to call.
    Takes under a millisecond and sends nothing.
    """
    candidates = [
        (adapter.index or 0, ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0]))
        for adapter in ifaddr.get_adapters()
        if not _CONTAINER_INTERFACE.fullmatch(adapter.nice_name)
        for ip in adapter.ips
    ]
    return in_order(candidates, _default_sources())


def in_order(candidates: Iterable[tuple[int, IPAddress]], default_sources: Iterable[IPAddress]) -> list[str]:
    """The reachable ones of (interface index, address) pairs, in the order that `lan_addresses` promises."""
    defaults = set(default_sources)
    reachable = {address: index for index, address in candidates if not (address.is_loopback or address.is_link_local)}
    return [
        str(address)
        for address in sorted(
            reachable,
            key=lambda address: (
                address.version,
                address not in defaults,
                not address.is_private,
                reachable[address],
                int(address),
            ),
        )
    ]


def listening_addresses(host: str) -> list[str]:
    """The addresses that a server listens on for `host`, an address or a name as in the settings. Raises OSError.

    `0.0.0.0` is every IPv4 address, `::` every IPv6 address; nothing or `*` is both, and gives both. A name is looked
    up once, as sockets are opened once: that waits for an answer.
    """
    if host in ("", "*"):
        return ["0.0.0.0", "::"]
    try:
        return [str(ip_address(host))]
    except ValueError:
        return _looked_up(host)


def addresses_listened_on(host: str) -> list[str]:
    """Where other machines find a server that listens on `host` now; empty where it is for this machine alone."""
    found: dict[str, None] = {}
    for listening in _listening(host):
        if listening.is_unspecified:
            found |= dict.fromkeys(a for a in lan_addresses() if ip_address(a).version == listening.version)
        elif not listening.is_loopback:
            found[str(listening)] = None
    return list(found)


def local_address(host: str) -> str:
    """Where this machine itself finds a server that listens on `host`."""
    listening = next(iter(_listening(host)), None)
    if listening is None:
        return host
    if listening.is_unspecified:
        return "127.0.0.1" if listening.version == 4 else "::1"
    return str(listening)


def loopback_addresses(host: str) -> list[str]:
    """Those of `127.0.0.1` and `::1` at which a server that listens on `host` is found."""
    listening = _listening(host)
    loopbacks = [ip_address("127.0.0.1"), ip_address("::1")]
    every = [address.version for address in listening if address.is_unspecified]
    return [str(loopback) for loopback in loopbacks if loopback.version in every or loopback in listening]


def _listening(host: str) -> list[IPAddress]:
    try:
        return [ip_address(address) for address in listening_addresses(host)]
    except OSError:
        return []  # Whoever opens the sockets says so.


@functools.cache
def _looked_up(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of scoped addresses only the address: a certificate has no scope.
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def host_name() -> str | None:
    """The machine's own name in lower case (`kitchenbox`, or `kitchenbox.fritz.box`); None when it is no DNS name."""
    name = socket.gethostname().rstrip(".").lower()
    return name if _HOST_NAME.fullmatch(name) and name != "localhost" else None


def _default_sources() -> list[IPAddress]:
    """The source addresses of this machine's connections to the outside."""
    found = []
    for family, outside in zip((socket.AF_INET, socket.AF_INET6), _OUTSIDE_ADDRESSES, strict=True):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                # Connecting a UDP socket only chooses the route: no packet leaves.
                probe.connect((outside, 9))
                found.append(ip_address(probe.getsockname()[0]))
        except OSError:
            continue  # No route, or no such family, on this machine: nothing comes first then.
    return found
