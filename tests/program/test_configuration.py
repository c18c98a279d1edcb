from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voice_streaming.program.configuration import load
from voice_streaming.settings.model import ConfigError, PullSettings, PushSettings, Settings

SECRET_KEYS = {"access.tokens", "access.token_secret", "cluster.url", "cluster.password", "cluster.secret"}
BY_NAME = {"sources", "targets", "rooms"}
"""What is no section with keys of ours: two whose keys are names of streams, and a list of names."""
ALL_KEYS = [
    f"{section.name}.{field.name}"
    for section in msgspec.structs.fields(Settings)
    if section.name not in BY_NAME
    for field in msgspec.structs.fields(section.type)
]


class Layers:
    """The places that settings come from, in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.json"
        self.options = folder / "options.json"
        self.given = folder / "given.json"

    def load(
        self,
        environment: dict[str, str] | None = None,
        overrides: dict[str, Any] | None = None,
        config_path: Path | None = None,
    ) -> Settings:
        return load(
            config_path, environment or {}, overrides or {}, default_path=self.config, options_path=self.options
        )

    def error(self, **arguments: Any) -> str:
        with pytest.raises(ConfigError) as error:
            self.load(**arguments)
        return str(error.value)

    def load_or_error(self) -> Settings | str:
        try:
            return self.load()
        except ConfigError as error:
            return str(error)

    def error_of_config(self, values: object) -> str:
        self.config.write_text(json.dumps(values))
        return self.error()


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_without_any_layer_the_defaults_hold(layers: Layers) -> None:
    settings = layers.load()
    assert settings == Settings()
    assert (settings.server.port, settings.audio.port) == (8080, 8081)
    assert settings.webrtc.ice_servers == ()


def test_later_layers_win_key_by_key(layers: Layers) -> None:
    layers.config.write_text('{"server": {"host": "1.1.1.1", "port": 1001, "queue_size": 11}, "audio": {"port": 2001}}')
    assert layers.load().server.port == 1001
    layers.options.write_text('{"server": {"port": 1002, "log_level": "DEBUG"}}')
    assert layers.load().server.port == 1002
    environment = {"PORT": "1003", "LOG_LEVEL": "ERROR", "AUDIO_PORT": "2003"}
    assert layers.load(environment).server.port == 1003
    settings = layers.load(environment, {"server.port": 1004, "server.host": None})
    assert (settings.server.host, settings.server.port, settings.server.queue_size) == ("1.1.1.1", 1004, 11)
    assert (settings.server.log_level, settings.audio.port) == ("ERROR", 2003)


def test_a_later_layer_may_give_the_default_back(layers: Layers) -> None:
    layers.config.write_text(
        '{"server": {"port": 1001}, "webrtc": {"opus_fec": false, "host_addresses": ["127.0.0.1"]}}'
    )
    layers.options.write_text('{"server": {"port": 8080}, "webrtc": {"opus_fec": true, "host_addresses": []}}')
    assert layers.load() == Settings()


def test_an_empty_variable_is_none(layers: Layers) -> None:
    assert layers.load({"PORT": "", "HOST": ""}) == Settings()


def test_a_file_that_was_asked_for_takes_the_place_of_the_default_one(layers: Layers) -> None:
    layers.config.write_text('{"server": {"port": 1001, "queue_size": 11}}')
    layers.given.write_text('{"server": {"port": 1002}}')
    settings = layers.load(config_path=layers.given)
    assert (settings.server.port, settings.server.queue_size) == (1002, 64)


def test_a_file_that_was_asked_for_must_be_there(layers: Layers) -> None:
    assert layers.error(config_path=layers.given) == f"{layers.given}: cannot be read: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"7", b'"text"', b"null"])
def test_a_file_must_be_a_json_object(layers: Layers, content: bytes) -> None:
    layers.config.write_bytes(content)
    message = layers.error()
    assert message.startswith(f"{layers.config}: ")
    assert "JSON" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "key", "value", "allowed"),
    [
        ({"server": {"port": 0}}, "server.port", "0", ">= 1"),
        ({"server": {"port": 65_536}}, "server.port", "65536", "<= 65535"),
        ({"server": {"port": "8080"}}, "server.port", '"8080"', "int"),
        ({"server": {"port": True}}, "server.port", "true", "int"),
        ({"server": {"port": 80.5}}, "server.port", "80.5", "int"),
        ({"server": {"port": None}}, "server.port", "null", "int"),
        ({"server": {"host": 7}}, "server.host", "7", "str"),
        ({"access": {"trusted_proxies": ["10.0.0.7/8"]}}, "access.trusted_proxies.0", '"10.0.0.7/8"', "host bits set"),
        ({"access": {"trusted_proxies": ["nginx"]}}, "access.trusted_proxies.0", '"nginx"', "matching regex"),
        ({"access": {"ingress_address": "1.2.3"}}, "access.ingress_address", '"1.2.3"', "IP address"),
        ({"server": {"log_level": "LOUD"}}, "server.log_level", '"LOUD"', "DEBUG"),
        ({"server": {"max_connections": 0}}, "server.max_connections", "0", ">= 1"),
        ({"server": {"queue_size": 3}}, "server.queue_size", "3", ">= 4"),
        ({"server": {"heartbeat_s": 0}}, "server.heartbeat_s", "0", "> 0"),
        ({"server": {"heartbeat_s": 1e9}}, "server.heartbeat_s", "1000000000.0", "86400"),
        ({"webrtc": {"connection_timeout": -1}}, "webrtc.connection_timeout", "-1", "> 0"),
        ({"webrtc": {"opus_fec": "yes"}}, "webrtc.opus_fec", '"yes"', "bool"),
        ({"webrtc": {"opus_bitrate_bps": 1}}, "webrtc.opus_bitrate_bps", "1", ">= 6000"),
        ({"webrtc": {"ice_servers": {}}}, "webrtc.ice_servers", "{}", "array"),
        ({"webrtc": {"ice_servers": [{"urls": "turn:x"}]}}, "webrtc.ice_servers.0.urls", '"turn:x"', "^stun:"),
        ({"webrtc": {"ice_servers": [{}]}}, "webrtc.ice_servers.0", "{}", "urls"),
        ({"webrtc": {"host_addresses": ["127.0.0.1", 7]}}, "webrtc.host_addresses.1", "7", "str"),
        ({"audio": {"bitrate_bps": 1}}, "audio.bitrate_bps", "1", "128000"),
        ({"audio": {"channels": 3}}, "audio.channels", "3", "1, 2"),
        ({"audio": []}, "audio", "[]", "object"),
        ({"server": 7}, "server", "7", "object"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    layers: Layers, values: object, key: str, value: str, allowed: str
) -> None:
    message = layers.error_of_config(values)
    assert message.startswith(f"{layers.config}: {key} is {value}: ")
    assert allowed in message.rpartition(": ")[2]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"sever": {}}, "sever"),
        ({"server": {"a\nb": 1}}, "server.a\\u000ab"),
        ({"server": {"prot": 1}}, "server.prot"),
        ({"webrtc": {"ice_servers": [{"urls": "stun:x", "username": "u"}]}}, "webrtc.ice_servers.0.username"),
    ],
)
def test_an_unknown_key_is_named(layers: Layers, values: object, key: str) -> None:
    message = layers.error_of_config(values)
    assert message.startswith(f"{layers.config}: {key}: there is no such setting (line 1, column ")


@pytest.mark.parametrize("key", ALL_KEYS)
def test_every_key_is_checked(layers: Layers, key: str) -> None:
    section, name = key.split(".")
    message = layers.error_of_config({section: {name: {"wrong": 1}}})
    shown = "(not shown)" if key in SECRET_KEYS else '{"wrong":1}'
    assert message.startswith(f"{layers.config}: {key} is {shown}: ")


@pytest.mark.parametrize("key", ALL_KEYS)
def test_no_key_takes_null(layers: Layers, key: str) -> None:
    section, name = key.split(".")
    shown = "(not shown)" if key in SECRET_KEYS else "null"
    assert layers.error_of_config({section: {name: None}}).startswith(f"{layers.config}: {key} is {shown}: ")


@pytest.mark.parametrize("key", ALL_KEYS)
def test_every_wrong_value_is_found_in_the_file(layers: Layers, key: str) -> None:
    section, name = key.split(".")
    layers.config.write_text(f'{{\n  "{section}": {{\n    "{name}": {{"wrong": 1}}\n  }}\n}}\n')
    assert layers.error().endswith(" (line 3, column 5)")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ('{"server": {"port": 1,\n "ports": 2}}', "line 2, column 2"),
        ('{"discovery": {"addresses": ["::1",\n\n   "x"]}}', "line 3, column 4"),
        ('{"webrtc": {"ice_servers": [{"urls": "stun:x"}, [[{"a": [1]}]],\n{"urls": 1}]}}', "line 1, column 49"),
        ('{"webrtc": {"ice_servers": [{"urls": "stun:a"},\n{"urls": "ü}", "b": 1}]}}', "line 2, column 2"),
        ('{\n"audio": {"port": 1}\n "server": {}}', "line 3, column 2"),
        ('{"server": {"host": "ä", }}', "line 1, column 26"),
        ('{"server": {\n', "line 2, column 1"),
        ("", "line 1, column 1"),
    ],
)
def test_a_mistake_is_named_by_line_and_column(layers: Layers, text: str, position: str) -> None:
    layers.config.write_text(text)
    assert layers.error().endswith(f" ({position})")


@pytest.mark.parametrize(
    ("text", "key", "second"),
    [
        ('{"server": {},\n "server": {}}', "server", "line 2, column 2"),
        ('{"server": {"port": 1,\n"port": 1}}', "server.port", "line 2, column 1"),
        ('{"server": {"port": 1, "p\\u006frt": 1}}', "server.port", "line 1, column 24"),
        ('{"access": {"tokens": [{"token": "a", "token": "b"}]}}', "access.tokens.0.token", "line 1, column 39"),
    ],
)
def test_a_key_that_stands_twice_is_refused_at_any_depth(layers: Layers, text: str, key: str, second: str) -> None:
    layers.config.write_text(text)
    message = layers.error()
    assert message.startswith(f"{layers.config}: {key} is given twice: line 1, column ")
    assert message.endswith(f" and {second}")


def test_a_byte_order_mark_is_skipped(layers: Layers) -> None:
    layers.config.write_bytes(b'\xef\xbb\xbf{"server": {"port": 1001}}')
    assert layers.load().server.port == 1001


def test_a_file_that_is_not_utf_8_says_where(layers: Layers) -> None:
    layers.config.write_bytes(b'{"server":\n {"host": "\xe4"}}')
    assert layers.error() == f"{layers.config}: is not JSON: it is not UTF-8 (line 2, column 12)"


def test_nesting_without_end_is_refused(layers: Layers) -> None:
    layers.config.write_text("[" * 100_000)
    assert "nested too deeply" in layers.error()


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_the_log_level_is_compared_without_case(layers: Layers, level: str) -> None:
    assert layers.load({"LOG_LEVEL": level}).server.log_level == "DEBUG"
    assert layers.load(overrides={"server.log_level": level}).server.log_level == "DEBUG"
    layers.config.write_text(f'{{"server": {{"log_level": "{level}"}}}}')
    assert layers.load().server.log_level == "DEBUG"


PULL = {"whep": "https://box.lan/whep/a", "token": "the-token"}


def test_what_is_exchanged_with_other_servers_is_given_by_the_names_of_streams(layers: Layers) -> None:
    target = {"whip": "http://10.0.0.2:8080/whip/hall?key=x"}
    layers.config.write_text(json.dumps({"sources": {"Küche 2": PULL}, "targets": {"kitchen": [target, target]}}))
    taken = layers.load()
    assert taken.sources == {"Küche 2": PullSettings(PULL["whep"], "the-token")}
    assert taken.targets == {"kitchen": (PushSettings(target["whip"]), PushSettings(target["whip"]))}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sources": {"a": PULL, "b": {}}}, "sources.b is (not shown): object missing required field `whep`"),
        ({"sources": {"a": PULL | {"token": "two words"}}}, "sources.a.token is (not shown): expected"),
        ({"sources": {"a": {"whep": "ftp://box/a"}}}, "sources.a.whep is (not shown): expected"),
        ({"sources": {"a": {"whep": "https://user:secret@box/a"}}}, "sources.a.whep is (not shown): expected"),
        ({"sources": {"a": PULL | {"tokn": "x"}}}, "sources.a.tokn: there is no such setting"),
        ({"targets": {"a": [{"whip": "https://box/a", "token": 7}]}}, "targets.a.0.token is (not shown): expected"),
        ({"targets": {"a": {"whip": "https://box/a"}}}, "targets.a is (not shown): expected `array`"),
        ({"sources": {"latest": PULL}}, 'sources.latest: The name "latest" is reserved'),
        ({"sources": {" a": PULL}}, 'sources. a: is to be written "a"'),
        ({"targets": {"A": [], "a": []}}, "targets.a: is the same name as targets.A"),
        ({"sources": []}, "sources is (not shown): expected `object`"),
        ({"rooms": ["Kitchen", "a/b"]}, 'rooms.1: A stream\'s name cannot contain "/"'),
        ({"rooms": [" Kitchen"]}, 'rooms.0: is to be written "Kitchen"'),
        ({"rooms": "Kitchen"}, "rooms is "),
        (
            {"rooms": [str(number) for number in range(100)]},
            "rooms has 100 names: expected fewer than limits.max_rooms",
        ),
        ({"streams": {"exclusive_rooms": [""]}}, "streams.exclusive_rooms.0: "),
    ],
)
def test_what_is_wrong_with_an_exchange_is_named_without_its_secrets(layers: Layers, values: object, says: str) -> None:
    message = layers.error_of_config(values)
    assert message.startswith(f"{layers.config}: {says}")
    assert "secret" not in message
    assert "the-token" not in message


def test_an_environment_variable_is_named(layers: Layers) -> None:
    assert layers.error(environment={"PORT": "http"}).startswith('environment variable PORT: server.port is "http": ')
    assert "<= 65535" in layers.error(environment={"AUDIO_PORT": "99999"})
    assert layers.error(environment={"LOG_LEVEL": "LOUD"}).endswith(": allowed are DEBUG, ERROR, INFO, WARNING")


def test_the_command_line_is_named(layers: Layers) -> None:
    message = layers.error(overrides={"server.port": 70_000})
    assert message.startswith("command line: server.port is 70000: ")


def test_an_error_names_the_layer_it_is_in_even_if_a_later_one_would_win(layers: Layers) -> None:
    layers.config.write_text('{"server": {"port": 0}}')
    assert layers.error(environment={"PORT": "8080"}).startswith(f"{layers.config}: server.port is 0")


def test_a_long_value_is_cut(layers: Layers) -> None:
    assert len(layers.error_of_config({"server": {"port": "x" * 10_000}})) < 300


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:80", "256.1.1.1", ""])
def test_a_host_address_must_be_one(layers: Layers, address: str) -> None:
    message = layers.error_of_config({"webrtc": {"host_addresses": ["127.0.0.1", address]}})
    assert "webrtc.host_addresses" in message
    assert json.dumps(address) in message
    assert "IP address" in message


@pytest.mark.parametrize("url", ["stun:", "stun:a b", "stun:host:port", "stun:host:1?transport=udp"])
def test_an_ice_server_must_be_one_that_aiortc_takes(layers: Layers, url: str) -> None:
    """It would otherwise end every session at its start."""
    message = layers.error_of_config({"webrtc": {"ice_servers": [{"urls": url}]}})
    assert "webrtc.ice_servers" in message
    assert json.dumps(url) in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
some_keys = st.sampled_from([*ALL_KEYS, "server.", "webrtc.nothing", "nothing.port"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_keys, json_values)
def test_any_value_is_taken_or_one_line(layers: Layers, dotted_key: str, value: Any) -> None:
    section, key = dotted_key.split(".")
    layers.config.write_text(json.dumps({section: {key: value}}))
    taken = layers.load_or_error()
    if isinstance(taken, str):
        assert len(taken.splitlines()) == 1
        assert f"{section}.{key}" in taken or section == "nothing"
    else:
        assert json.loads(msgspec.json.encode(getattr(getattr(taken, section), key))) == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_any_file_is_taken_or_one_line(layers: Layers, value: Any) -> None:
    layers.config.write_text(json.dumps(value))
    taken = layers.load_or_error()
    assert taken == Settings() if isinstance(taken, Settings) else len(taken.splitlines()) == 1


def test_speech_is_no_mode_of_recording_yet(layers: Layers) -> None:
    message = layers.error_of_config({"recording": {"mode": "speech"}})
    assert message.startswith('recording.mode is "speech"')
    assert all(mode in message for mode in ('"off"', '"manual"', '"always"'))
    assert "\n" not in message
