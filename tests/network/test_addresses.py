"""Addresses and names of this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import ifaddr
import pytest

from voice_streaming.network import addresses


def test_order_is_default_route_then_private_then_others_and_ipv4_first() -> None:
    candidates = [
        (3, ip_address("fd12::7")),
        (2, ip_address("100.64.0.9")),
        (5, ip_address("10.1.0.2")),
        (4, ip_address("192.168.1.20")),
        (3, ip_address("2a02:8109::5")),
    ]

    ordered = addresses.in_order(candidates, [ip_address("192.168.1.20"), ip_address("2a02:8109::5")])

    assert ordered == ["192.168.1.20", "10.1.0.2", "100.64.0.9", "2a02:8109::5", "fd12::7"]
    assert addresses.in_order(reversed(candidates), [ip_address("192.168.1.20"), ip_address("2a02:8109::5")]) == ordered


def test_loopback_and_link_local_are_left_out() -> None:
    candidates = [(1, ip_address(text)) for text in ("127.0.0.1", "::1", "fe80::1", "169.254.3.4", "192.168.0.2")]

    assert addresses.in_order(candidates, []) == ["192.168.0.2"]


def test_this_machines_addresses_can_be_bound() -> None:
    for address in addresses.lan_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((address, 0))


@pytest.mark.parametrize("bridge", ["docker0", "br-0123456789ab", "hassio", "veth3f2a", "virbr0"])
def test_bridges_of_containers_are_left_out(bridge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapters are made up: no container engine runs here."""
    adapters = [_adapter("eth0", 2, "192.168.1.5"), _adapter(bridge, 3, "172.17.0.1"), _adapter("br0", 4, "10.0.0.4")]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: adapters)

    assert set(addresses.lan_addresses()) == {"192.168.1.5", "10.0.0.4"}


@pytest.mark.parametrize(
    ("system_name", "expected"),
    [
        ("Kitchenbox", "kitchenbox"),
        ("box.fritz.box.", "box.fritz.box"),
        ("localhost", None),
        ("my_box", None),
        ("-x", None),
        ("", None),
    ],
)
def test_host_name_is_usable_in_an_address(
    system_name: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: system_name)

    assert addresses.host_name() == expected


def _adapter(name: str, index: int, address: str) -> object:
    return ifaddr.Adapter(name, name, [ifaddr.IP(address, 24, name)], index)


MACHINE = ["192.168.1.5", "10.0.0.4", "2001:db8::5"]


@pytest.mark.parametrize(
    ("host", "listening", "others", "here", "loopback"),
    [
        ("0.0.0.0", ["0.0.0.0"], MACHINE[:2], "127.0.0.1", ["127.0.0.1"]),
        ("::", ["::"], MACHINE[2:], "::1", ["::1"]),
        ("", ["0.0.0.0", "::"], MACHINE, "127.0.0.1", ["127.0.0.1", "::1"]),
        ("*", ["0.0.0.0", "::"], MACHINE, "127.0.0.1", ["127.0.0.1", "::1"]),
        ("127.0.0.1", ["127.0.0.1"], [], "127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"], [], "::1", ["::1"]),
        ("192.168.1.5", ["192.168.1.5"], ["192.168.1.5"], "192.168.1.5", []),
        ("0:0::0", ["::"], MACHINE[2:], "::1", ["::1"]),
        ("two.names.test", ["192.168.1.5", "2001:db8::5"], ["192.168.1.5", "2001:db8::5"], "192.168.1.5", []),
        ("missing.test", None, [], "missing.test", []),
    ],
)
def test_what_is_said_is_what_is_listened_on(
    host: str,
    listening: list[str] | None,
    others: list[str],
    here: str,
    loopback: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The addresses and the DNS are made up: no test machine has all of these."""
    monkeypatch.setattr(addresses, "lan_addresses", lambda: list(MACHINE))
    monkeypatch.setattr(socket, "getaddrinfo", _look_up)
    addresses._looked_up.cache_clear()
    try:
        if listening is None:
            with pytest.raises(socket.gaierror):
                addresses.listening_addresses(host)
        else:
            assert addresses.listening_addresses(host) == listening
        assert addresses.addresses_listened_on(host) == others
        assert addresses.local_address(host) == here
        assert addresses.loopback_addresses(host) == loopback
    finally:
        addresses._looked_up.cache_clear()


def _look_up(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
    if name != "two.names.test":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [(0, 0, 0, "", (address, 0)) for address in ("192.168.1.5", "2001:db8::5", "192.168.1.5")]
