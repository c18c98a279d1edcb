"""By which names the server answers."""

from __future__ import annotations

import socket

import pytest

from voice_streaming.access.hosts import Hosts

HOSTS = Hosts(["Voice.Example.com", "box.example.org."], lambda: frozenset({"cert.example.com", "*.home.example.com"}))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1:8080",
        "8.8.8.8",
        "[fd00::1]:8080",
        "[2001:470::1]",
        "localhost:8080",
        "kitchenbox",
        "KITCHENBOX:8080",
        "kitchenbox.local",
        "kitchenbox.local.:8080",
        "kitchen_box.lan",
        "box.home",
        "a.b.home.arpa:1",
        "voice.internal",
        "box.fritz.box",
        "voice.speedport.ip",
        "box.localdomain",
        "app.localhost",
        "voice.example.com",
        "VOICE.EXAMPLE.COM:443",
        "box.example.org",
        "cert.example.com",
        "kitchen.home.example.com",
    ],
)
def test_what_nobody_else_can_own_and_what_is_configured_is_known(host: str) -> None:
    assert HOSTS.knows(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "192-168-1-5.nip.io",
        "local.evil.example",
        "evillocal.example",
        "xfritz.box",
        "fritz.box.evil.example",
        "other.example.com",
        "a.b.home.example.com",
        "home.example.com",
        "[half",
        "@",
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not HOSTS.knows(host)


def test_the_machines_own_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Hosts([]).knows("relay.office.example")
    monkeypatch.setattr(socket, "gethostname", lambda: "relay.office.example")
    assert Hosts([]).knows("relay.office.example:8080")
