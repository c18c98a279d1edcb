"""The add-on's files, held to each other, to the settings, and to the server that runs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jinja2
import msgspec
import pytest
import yaml

from tests.support.availability import require_program
from tests.support.ports import free_port
from tests.support.server import REPOSITORY, running_server
from tests.support.supervisor import mock_supervisor
from voice_streaming import __version__
from voice_streaming.network.supervisor import DISCOVERY_SERVICE, NETWORK_KEYS
from voice_streaming.program.configuration import load
from voice_streaming.settings.model import AccessSettings, ConfigError, Settings, TokenSettings

Nested = dict[str, Any]

# What the Supervisor knows (its documentation of the configuration, and supervisor/apps/validate.py of 2026). The
# deprecated ones are not in here: advanced, codenotary, auto_uart, snapshot*.
KNOWN_KEYS = {
    *("name", "version", "slug", "description", "arch", "machine", "url", "startup", "webui", "boot", "ports"),
    *("ports_description", "host_network", "host_ipc", "host_dbus", "host_pid", "host_uts", "devices"),
    *("homeassistant", "hassio_role", "hassio_api", "homeassistant_api", "docker_api", "privileged", "full_access"),
    *("apparmor", "map", "environment", "audio", "video", "gpio", "usb", "uart", "udev", "devicetree"),
    *("kernel_modules", "stdin", "legacy", "options", "schema", "image", "timeout", "tmpfs", "discovery", "services"),
    *("auth_api", "ingress", "ingress_port", "ingress_entry", "ingress_stream", "panel_icon", "panel_title"),
    *("panel_admin", "backup", "backup_pre", "backup_post", "backup_exclude", "stage", "init", "watchdog"),
    *("realtime", "journald", "breaking_versions", "ulimits"),
}
SCHEMA_ELEMENT = re.compile(
    r"(bool|email|url|port|str(\(\d*,\d*\))?|password(\(\d*,\d*\))?|int\((?P<min>-?\d*),(?P<max>-?\d*)\)"
    r"|float(\(-?[\d.]*,-?[\d.]*\))?|match\((?P<match>.*)\)|list\((?P<list>.+)\))\??"
)


def parsed(name: str) -> Nested:
    found = yaml.safe_load((REPOSITORY / name).read_text())
    assert isinstance(found, dict)
    return found


CONFIG = parsed("config.yaml")
TRANSLATION = parsed("translations/en.yaml")


def flat(nested: Nested) -> Nested:
    """By dotted key: of sections, and of settings that are in none."""
    sections = {name: values for name, values in nested.items() if isinstance(values, dict)}
    others = {name: value for name, value in nested.items() if name not in sections}
    return others | {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


OPTIONS = flat(CONFIG["options"])
SCHEMA = flat(CONFIG["schema"])
DEFAULTS: Nested = msgspec.to_builtins(Settings())


def setting_type(key: str) -> Any:
    found: Any = msgspec.inspect.type_info(Settings)
    for name in key.split("."):
        found = {field.name: field.type for field in found.fields}[name]
    return found


def read_options(folder: Path, options: Nested) -> Settings:
    path = folder / "options.json"
    path.write_text(json.dumps(options))
    return load(None, {}, {}, options_path=path)


# The manifest


def test_only_keys_that_the_supervisor_knows() -> None:
    assert set(CONFIG) <= KNOWN_KEYS
    assert set(CONFIG["arch"]) == {"aarch64", "amd64"}
    assert re.fullmatch(r"[-_.A-Za-z0-9]+", CONFIG["slug"])
    for entry in CONFIG["map"]:
        assert set(entry) == {"type", "read_only"}
    assert {entry["type"]: entry["read_only"] for entry in CONFIG["map"]} == {"data": False, "ssl": True}
    assert not list(REPOSITORY.glob("build.*"))


def test_the_version_is_the_programs() -> None:
    assert CONFIG["version"] == __version__
    assert re.search(r"^## (\S+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__  # type: ignore[index]


def test_what_the_program_needs_of_the_supervisor() -> None:
    assert CONFIG["init"] is False
    assert CONFIG["host_network"] is True
    assert CONFIG["discovery"] == [DISCOVERY_SERVICE]
    port = CONFIG["ingress_port"]
    assert CONFIG["ingress"] is True
    assert CONFIG["environment"]["INGRESS_PORT"] == str(port)
    assert CONFIG["watchdog"] == f"http://[HOST]:{port}/health"
    # The form that validate.py demands.
    assert re.fullmatch(r"(https?|\[PROTO:\w+\]|tcp)://\[HOST\]:(\[PORT:\d+\]|\d+).*", CONFIG["watchdog"])
    assert AccessSettings().ingress_address == "172.30.32.2"


def test_ports_are_those_that_the_server_asks_for() -> None:
    assert set(CONFIG["ports"]) == set(NETWORK_KEYS)
    assert CONFIG["ports_description"] == TRANSLATION["network"]
    for port, key in NETWORK_KEYS.items():
        section, name = key.split(".")
        assert CONFIG["ports"][port] == DEFAULTS[section][name]
        assert port == f"{CONFIG['ports'][port]}/tcp"


def test_the_repository_says_who_it_is() -> None:
    repository = parsed("repository.yaml")
    assert set(repository) == {"name", "url", "maintainer"}
    assert repository["url"] == CONFIG["url"]


def test_pictures() -> None:
    for name, size in {"icon.png": (128, 128), "logo.png": (250, 100)}.items():
        data = (REPOSITORY / name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == size


@pytest.mark.any_python
def test_apparmor_profile_parses() -> None:
    """Only that: this kernel may have no AppArmor."""
    profile = REPOSITORY / "apparmor.txt"
    assert re.search(rf"^profile {CONFIG['slug']} ", profile.read_text(), re.MULTILINE)
    parser = require_program("apparmor_parser", "/usr/sbin/apparmor_parser")
    ended = subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache", profile], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


# Options


def test_every_option_has_a_type_a_default_and_words() -> None:
    assert set(OPTIONS) == set(SCHEMA)
    configuration = TRANSLATION["configuration"]
    words = flat({section: texts.get("fields", texts["name"]) for section, texts in configuration.items()})
    assert set(words) == set(SCHEMA)
    assert all(text == "Rooms" or (text["name"] and text["description"]) for text in words.values())
    (of_a_token,) = SCHEMA["access.tokens"]
    words_of_a_token = TRANSLATION["configuration"]["access"]["fields"]["tokens"]["fields"]
    assert {key for key, text in words_of_a_token.items() if text["name"] and text["description"]} == set(of_a_token)
    assert all(texts["name"] and texts["description"] for texts in TRANSLATION["configuration"].values())


def test_every_option_is_a_setting_with_the_same_default(tmp_path: Path) -> None:
    settings = msgspec.to_builtins(read_options(tmp_path, CONFIG["options"]))
    assert settings == DEFAULTS


@pytest.mark.parametrize("key", SCHEMA)
def test_an_options_type_is_the_settings(key: str) -> None:
    kind, default = SCHEMA[key], OPTIONS[key]
    check_type(kind, default, setting_type(key))


def check_type(kind: Any, default: Any, expected: Any) -> None:
    if isinstance(kind, list):
        assert isinstance(default, list)
        (kind,), expected = kind, expected.item_type
    if isinstance(kind, dict):
        fields = {field.name: field.type for field in expected.fields}
        assert set(kind) == set(fields)
        for name in kind:
            check_type(kind[name], [] if isinstance(kind[name], list) else None, fields[name])
        return
    element = SCHEMA_ELEMENT.fullmatch(kind)
    assert element is not None, kind
    if element["list"]:
        choices = element["list"].split("|")
        assert set(choices) == {str(value) for value in expected.values}
        assert default in choices or default == []
    elif kind.startswith("int"):
        assert (int(element["min"]), int(element["max"])) == (expected.ge, expected.le)
    elif kind.startswith("float"):
        least, most = kind.removeprefix("float(").removesuffix(")").split(",")
        assert (float(least), float(most)) == (expected.ge, expected.le)
    elif kind.startswith("match"):
        assert element["match"] == expected.pattern
    else:
        assert kind.rstrip("?") in {bool: ("bool",), str: ("str", "password")}[type(msgspec_example(expected))]


def msgspec_example(kind: Any) -> object:
    return True if isinstance(kind, msgspec.inspect.BoolType) else ""


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("audio.bitrate_bps", "64000", 64_000),
        ("audio.channels", "1", 1),
        ("server.tls_names", ["box.fritz.box"], ("box.fritz.box",)),
        ("server.ssl_cert_file", "", ""),
        ("webrtc.udp_ports", "40000-40100", "40000-40100"),
        ("discovery.lan", False, False),
        ("access.token_secret", "s" * 32, "s" * 32),
        (
            "access.tokens",
            [
                {"token": "t" * 16, "scopes": ["send", "receive"]},
                {"token": "u" * 16, "scopes": ["admin"], "streams": []},
            ],
            (
                TokenSettings(token="t" * 16, scopes=("send", "receive")),
                TokenSettings(token="u" * 16, scopes=("admin",)),
            ),
        ),
    ],
)
def test_an_option_sets_its_setting(tmp_path: Path, key: str, value: object, setting: object) -> None:
    section, name = key.split(".")
    settings = read_options(tmp_path, {section: {name: value}})
    assert getattr(getattr(settings, section), name) == setting


def test_certificates_are_found_in_home_assistants_folder(tmp_path: Path) -> None:
    server = read_options(
        tmp_path, {"server": {"ssl_cert_file": "fullchain.pem", "ssl_key_file": "/ssl/own/privkey.pem"}}
    ).server
    assert server.ssl_cert_file == "/ssl/fullchain.pem"
    assert server.ssl_key_file == "/ssl/own/privkey.pem"


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options\.json: audio\.channels is \"3\": allowed are 1, 2"):
        read_options(tmp_path, {"audio": {"channels": "3"}})


# The documentation


def yaml_blocks(text: str) -> list[Any]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


DOCS = (REPOSITORY / "DOCS.md").read_text()


def test_every_option_is_in_the_documentation() -> None:
    (table,) = re.findall(r"## Options\n(.*?)\n## ", DOCS, re.DOTALL)
    assert set(re.findall(r"`((?:(?:server|audio|webrtc|access|recording|discovery)\.\w+)|rooms)`", table)) == set(
        SCHEMA
    )


def test_the_log_says_what_the_documentation_quotes() -> None:
    """Its fixed words, at least, stand in the source."""
    source = "".join(path.read_text() for path in REPOSITORY.rglob("*.py") if "tests" not in path.parts)
    source += "".join(path.read_text() for path in (REPOSITORY / "static").glob("*.*") if path.suffix != ".png")
    quoted = [
        "is live",
        "No HTTPS, so other machines' browsers give no microphone",
        "media lost: ",
        "connection failed",
        "not connected in time",
        "No WebRTC on ",
        "Encoding stream ",
        " cannot be opened: ",
        "Home Assistant's side bar cannot show the pages",
        "The Supervisor does not tell the ports",
        "Your browser wants a tap",
        "This microphone gives no sound",
        "Browsers give the microphone only to secure pages",
        "There is no microphone inside of this frame",
        "No sound gets through",
    ]
    assert [text for text in quoted if text not in source] == []
    assert [text for text in quoted if text.strip() not in DOCS] == []


async def test_the_addresses_for_speakers_play() -> None:
    """Those of the documentation, at the server that runs, asked for as a speaker does."""
    addresses = set(re.findall(r"http://192\.168\.1\.10:8081(/stream/\S+?\.mp3)", DOCS))
    assert addresses == {"/stream/latest.mp3", "/stream/kitchen.mp3"}
    async with running_server(arguments=["--demo"]) as server, aiohttp.ClientSession() as http:
        for path in addresses:
            url = server.audio_url(path.replace("kitchen", "demo"))
            async with http.get(url, headers={"User-Agent": "Sonos", "Icy-MetaData": "1"}) as response:
                assert response.status == 200
                assert response.content_type == "audio/mpeg"
                assert len(await response.content.readexactly(16_000)) == 16_000


async def test_the_sensor_of_the_documentation_knows_who_talks() -> None:
    (sensor,) = [block["rest"][0] for block in yaml_blocks(DOCS) if isinstance(block, dict) and "rest" in block]
    path = urlsplit(sensor["resource"]).path
    template = jinja2.Environment().from_string(sensor["binary_sensor"][0]["value_template"])
    for arguments, somebody in ([], "False"), (["--demo"], "True"):
        async with (
            running_server(arguments=arguments) as server,
            aiohttp.ClientSession() as http,
            http.get(server.audio_url(path)) as response,
        ):
            assert template.render(value_json=await response.json()) == somebody


def test_the_examples_hang_together() -> None:
    """The scripts that the button and the automation start are those of the documentation."""
    blocks = yaml_blocks(DOCS)
    (scripts,) = [block for block in blocks if isinstance(block, dict) and "play_the_voice" in block]
    started = set(re.findall(r"script\.(\w+)", DOCS))
    assert started == set(scripts)
    (card,) = [block for block in blocks if isinstance(block, dict) and "server_url" in block]
    assert len(card) == 2


# The server as the add-on's process


async def test_server_with_the_options_as_installed(tmp_path: Path) -> None:
    """The Supervisor is a mock. scripts/check_dockerfile.py does the same in the image."""
    options = tmp_path / "options.json"
    options.write_text(json.dumps(CONFIG["options"]))
    program = tmp_path / "addon.py"
    program.write_text(
        "import sys, pathlib\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from voice_streaming.program import configuration\n"
        "from voice_streaming.settings import model\n"
        f"path = pathlib.Path({str(options)!r})\n"
        "configuration.load.__kwdefaults__['options_path'] = path\n"
        "model.data_folder.__kwdefaults__['options_path'] = path\n"
        "import webrtc_server_relay\n"
        "sys.exit(webrtc_server_relay.main())\n"
    )
    tls_port = free_port()
    async with mock_supervisor({"8443/tcp": tls_port}) as supervisor:
        async with running_server(
            {"server": {"tls": "off"}}, environment=supervisor.environment, program=program
        ) as server:
            async with aiohttp.ClientSession() as http, http.get(server.url("/health")) as response:
                # "auto" of the options has overruled "off".
                assert (await response.json())["tls_port"] == tls_port
            assert (await supervisor.announced())["config"]["tls_port"] == tls_port
        assert (tmp_path / "tls/authority.pem").exists()
