"""Loads the settings from files, environment and command line; errors name the key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ..network.tls_context import is_list_of_authorities
from ..process.refusal import Refused
from ..settings.model import (
    ADDON_OPTIONS_PATH,
    MAX_PORT,
    MIN_SECRET_CHARACTERS,
    ClusterSettings,
    ConfigError,
    ServerSettings,
    Settings,
)
from ..streams.names import name_key, stream_name
from .json_file import JsonObject, read_json_object

DEFAULT_CONFIG = Path(__file__).parents[2] / "config.json"

ENVIRONMENT_KEYS = {
    "HOST": "server.host",
    "PORT": "server.port",
    "AUDIO_PORT": "audio.port",
    "LOG_LEVEL": "server.log_level",
    "SSL_CERT_FILE": "server.ssl_cert_file",
    "SSL_KEY_FILE": "server.ssl_key_file",
    "INGRESS_PORT": "server.ingress_port",
}

_SECRET_KEYS = (
    ("access", "tokens"),
    ("access", "token_secret"),
    ("cluster", "url"),
    ("cluster", "password"),
    ("cluster", "secret"),
    ("sources",),
    ("targets",),
)
"""Values of these and below are never shown in messages."""

ADDON_CERTIFICATE_FOLDER = Path("/ssl")
"""Where Home Assistant keeps certificates; add-ons name files in it without the folder."""


class Layer(Struct):
    """One source of settings: `values` is nested as `Settings` is; `strict` is off where every value is text."""

    source: str
    values: dict[str, Any]
    strict: bool = True
    file: JsonObject | None = None

    def error(self, path: tuple[str, ...], text: str) -> ConfigError:
        """What is wrong with the value of that key; in a file, with its line and column."""
        where = f" ({self.file.position(path)})" if self.file is not None else ""
        return ConfigError(f"{self.source}: {'.'.join(path) or 'settings'}{text}{where}")


def load(
    config_path: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, Any],
    *,
    addon_ports: Mapping[str, int] | None = None,
    default_path: Path | None = None,
    options_path: Path = ADDON_OPTIONS_PATH,
) -> Settings:
    """Reads every layer and returns the settings that result.

    `config_path` must exist when given; `default_path` and `options_path` may be absent. `overrides` (the command line)
    and `addon_ports` (what the Supervisor has under Network) map dotted keys to values; None means not given. Raises
    ConfigError.
    """
    layers = []
    if config_path is not None:
        layers.append(_file_layer(config_path))
    elif default_path is not None and default_path.exists():
        layers.append(_file_layer(default_path))
    if options_path.exists():
        layers.append(_options_layer(options_path))
    layers += [Layer("Home Assistant's Network settings", _nest(*port)) for port in (addon_ports or {}).items()]
    layers += [
        Layer(f"environment variable {name}", _nest(key, environment[name]), strict=False)
        for name, key in ENVIRONMENT_KEYS.items()
        if environment.get(name) and not (name == "SSL_CERT_FILE" and _is_openssls_own(environment))
    ]
    layers += [Layer("command line", _nest(key, value)) for key, value in overrides.items() if value is not None]
    merged: dict[str, Any] = {}
    for layer in layers:
        checked = msgspec.to_builtins(_convert(layer))
        _merge(merged, _picked(checked, layer.values))
    settings = _convert(Layer("settings", merged))
    _check_together(settings)
    return settings


def _is_openssls_own(environment: Mapping[str, str]) -> bool:
    """Whether SSL_CERT_FILE has OpenSSL's meaning: the authorities to trust, which many systems set for every program.

    A single certificate without its key is taken for the server's, with the key forgotten.
    """
    return not environment.get("SSL_KEY_FILE") and is_list_of_authorities(environment["SSL_CERT_FILE"])


def _check_together(settings: Settings) -> None:
    """Checks that concern several keys, on the merged settings, as one layer may give what another lacks."""
    server = settings.server
    ports = {"server.port": server.port, "audio.port": settings.audio.port}
    if server.tls != "off":
        _check_certificate_files(server)
        ports["server.tls_port"] = server.tls_port
    if server.ingress_port:
        ports["server.ingress_port"] = server.ingress_port
    for key, port in ports.items():
        if other := next((name for name, taken in ports.items() if taken == port and name != key), None):
            raise ConfigError(f"{key} is {port}: {other} is the same; each needs a port of its own")
    if settings.recording.mode == "speech":
        raise ConfigError(
            'recording.mode is "speech": this server cannot tell speech yet; allowed are "off", "manual" and "always" '
            "(with recording.split_on_silence_s, a file for each utterance)"
        )
    _check_cluster(settings.cluster)
    if 0 < len(settings.access.token_secret) < MIN_SECRET_CHARACTERS:
        raise ConfigError(
            f"access.token_secret is (not shown): it needs at least {MIN_SECRET_CHARACTERS} characters, such as those "
            "that `python -c 'import secrets; print(secrets.token_urlsafe(32))'` prints"
        )


def _check_cluster(cluster: ClusterSettings) -> None:
    given = [name for name in ("sentinels", "password", "secret", "advertise_url") if getattr(cluster, name)]
    if given and not cluster.url:
        raise ConfigError(f'cluster.url is "": cluster.{given[0]} is of no use without it, such as "redis://host:6379"')
    if 0 < len(cluster.secret) < MIN_SECRET_CHARACTERS:
        raise ConfigError(f"cluster.secret is (not shown): it needs at least {MIN_SECRET_CHARACTERS} characters")


def _check_certificate_files(server: ServerSettings) -> None:
    keys = {"server.ssl_cert_file": server.ssl_cert_file, "server.ssl_key_file": server.ssl_key_file}
    missing = [key for key, path in keys.items() if not path]
    if len(missing) == 1:
        raise ConfigError(
            f'{missing[0]} is "": give both server.ssl_cert_file and server.ssl_key_file (environment: SSL_CERT_FILE '
            "and SSL_KEY_FILE), or neither (`SSL_CERT_FILE= python webrtc_server_relay.py` starts without the former)"
        )
    if missing and server.tls == "files":
        raise ConfigError(
            'server.tls is "files": it needs server.ssl_cert_file and server.ssl_key_file (environment: SSL_CERT_FILE '
            'and SSL_KEY_FILE); allowed without them are "auto" and "off"'
        )


def _file_layer(path: Path) -> Layer:
    file = read_json_object(path)
    return Layer(str(path), file.values, file=file)


def _options_layer(path: Path) -> Layer:
    """An add-on's options: every choice from a list is text there, and certificates are file names in one folder."""
    layer = _file_layer(path)
    server = layer.values.get("server")
    if isinstance(server, dict):
        for key in ("ssl_cert_file", "ssl_key_file"):
            if isinstance(name := server.get(key), str) and name:
                server[key] = str(ADDON_CERTIFICATE_FOLDER / name)
    layer.strict = False
    return layer


def _convert(layer: Layer) -> Settings:
    server = layer.values.get("server")
    if isinstance(server, dict) and isinstance(level := server.get("log_level"), str):
        server["log_level"] = level.upper()
    try:
        settings = msgspec.convert(layer.values, Settings, strict=layer.strict)
    except msgspec.ValidationError as error:
        path, text = _explained(str(error), layer.values)
        raise layer.error(path, text) from error
    _check_addresses(layer, settings)
    _check_names(layer, "sources", settings.sources)
    _check_names(layer, "targets", settings.targets)
    _check_rooms(layer, settings)
    return settings


def _check_names(layer: Layer, section: str, entries: Mapping[str, object]) -> None:
    """Checks that each key is a stream's name, and that no two mean the same stream."""
    keys: dict[str, str] = {}
    for name in entries:
        path = (section, name)
        _check_name(layer, path, name)
        if (other := keys.setdefault(name_key(name), name)) != name:
            raise layer.error(path, f": is the same name as {section}.{other}")


def _check_name(layer: Layer, path: tuple[str, ...], name: str) -> None:
    try:
        composed = stream_name(name)
    except Refused as refusal:
        raise layer.error(path, f": {refusal}") from None
    if composed != name:
        raise layer.error(path, f': is to be written "{composed}"')


def _check_rooms(layer: Layer, settings: Settings) -> None:
    """Checks that all are names, and no more than there may be."""
    for path, names in (
        (("rooms",), settings.rooms),
        (("streams", "exclusive_rooms"), settings.streams.exclusive_rooms),
    ):
        for index, name in enumerate(names):
            _check_name(layer, (*path, str(index)), name)
    # "Everyone" is one as well.
    if len(settings.rooms) >= settings.limits.max_rooms:
        raise layer.error(("rooms",), f" has {len(settings.rooms)} names: expected fewer than limits.max_rooms")


def _check_addresses(layer: Layer, settings: Settings) -> None:
    """Checks IP addresses and port ranges, which a pattern cannot."""
    webrtc, access = settings.webrtc, settings.access
    for (section, key), addresses in {
        ("webrtc", "host_addresses"): webrtc.host_addresses,
        ("webrtc", "advertised_addresses"): webrtc.advertised_addresses,
        ("discovery", "addresses"): settings.discovery.addresses,
    }.items():
        for index, address in enumerate(addresses):
            if not _is_ip_address(address):
                raise layer.error((section, key, str(index)), f" is {_shown(address)}: expected an IP address")
    if (ingress := access.ingress_address) and not _is_ip_address(ingress):
        raise layer.error(("access", "ingress_address"), f" is {_shown(ingress)}: expected an IP address")
    for index, network in enumerate(access.trusted_proxies):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            path = ("access", "trusted_proxies", str(index))
            raise layer.error(path, f" is {_shown(network)}: expected an IP network: {error}") from None
    ports = webrtc.udp_port_range
    if webrtc.udp_ports and not (ports and ports[0] >= 1 and ports[-1] <= MAX_PORT):
        allowed = f"allowed are ports from 1 to {MAX_PORT}, such as 40000 or 40000-40100"
        raise layer.error(("webrtc", "udp_ports"), f" is {_shown(webrtc.udp_ports)}: {allowed}")


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _explained(message: str, values: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Turns msgspec's "Expected `int` >= 1 - at `$.server.port`" into the key, and the value with what is allowed."""
    reason, _, path = message.partition(" - at `$")
    keys = _with_name(tuple(re.findall(r"\.{3}|[^.\[\]`]+", path)), values)
    if unknown := re.search(r"unknown field `(.*)`", reason, re.DOTALL):
        return (*keys, unknown[1]), ": there is no such setting"
    value: Any = values
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit():
            value = value[int(key)]
    is_secret = any(keys[: len(secret)] == secret for secret in _SECRET_KEYS)
    shown = "(not shown)" if is_secret else _shown(value)
    return keys, f" is {shown}: {_allowed(keys, reason)}"


def _with_name(keys: tuple[str, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys with the name of the entry that msgspec writes as `...`."""
    if keys[1:2] != ("...",):
        return keys
    section = keys[0]
    for name, entry in values[section].items():
        try:
            msgspec.convert({section: {name: entry}}, Settings)
        except msgspec.ValidationError:
            return (section, name, *keys[2:])
    return keys


def _allowed(keys: tuple[str, ...], reason: str) -> str:
    """The choices of a setting with few, else msgspec's reason."""
    if reason.startswith("Invalid enum value"):
        choices = _choices(keys)
        if choices:
            return f"allowed are {', '.join(str(choice) for choice in choices)}"
    return reason[:1].lower() + reason[1:]


def _choices(keys: tuple[str, ...]) -> tuple[Any, ...]:
    kind: Any = msgspec.inspect.type_info(Settings)
    for key in keys:
        fields = {field.name: field.type for field in getattr(kind, "fields", ())}
        kind = fields.get(key)
    return tuple(getattr(kind, "values", ()))


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."


def _nest(dotted_key: str, value: Any) -> dict[str, Any]:
    section, key = dotted_key.split(".")
    return {section: {key: value}}


def _picked(checked: Any, given: Any) -> Any:
    """The checked values of the given keys only, so that defaults do not override an earlier layer."""
    if isinstance(checked, dict) and isinstance(given, dict):
        return {key: _picked(checked[key], given[key]) for key in given}
    return checked


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
