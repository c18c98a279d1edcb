"""The addresses and the name of this machine on its networks.

Used for the certificate's names, for the addresses that are announced and logged, and for gathering ICE candidates.
"""

from __future__ import annotations

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


def is_every_address(host: str) -> bool:
    """Whether a server that listens on `host` listens on every address of its family."""
    return host in ("0.0.0.0", "::")


def addresses_listened_on(host: str) -> list[str]:
    """The addresses at which other machines reach a server that listens on `host`; empty for a loopback address.

    `host` is an address or a name, as in the settings.
    """
    if is_every_address(host):
        return lan_addresses()
    try:
        return [] if ip_address(host).is_loopback else [host]
    except ValueError:
        return [] if host == "localhost" else lan_addresses()


def local_address(host: str) -> str:
    """The address at which this machine itself reaches a server that listens on `host`."""
    return "127.0.0.1" if is_every_address(host) else host


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
