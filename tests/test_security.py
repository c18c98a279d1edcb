"""SECURITY.md: every test that it names is there; and what no other file tests of it."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from tests.support.rtc_client import voice_sender
from tests.support.server import REPOSITORY, RunningServer, running_server

TEXT = (REPOSITORY / "SECURITY.md").read_text()


def file_of_tests(name: str) -> Path:
    (found,) = (REPOSITORY / "tests").rglob(name)
    return found


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)`(?:: ((?:`[^`]+`(?:, )?)+))?", TEXT)
    assert len(named) > 20
    for file, tests in named:
        source = file_of_tests(file).read_text()
        for test in re.findall(r"`([^`]+)`", tests):
            if test.endswith(".py"):
                assert file_of_tests(test).exists()
                continue
            fragments = [part for part in test.split("…") if part]
            assert all(part in source for part in fragments), f"{file}: {test}"


def test_every_setting_that_is_named_exists() -> None:
    from voice_streaming.settings import model as config

    sections = {field: type(getattr(config.Settings(), field)) for field in config.Settings.__struct_fields__}
    named = set(re.findall(r"`(\w+)\.(\w+)`", TEXT)) - {("config", "json")}
    settings = {(section, key) for section, key in named if section in sections}
    assert len(settings) > 15
    for section, key in settings:
        assert key in sections[section].__struct_fields__, f"{section}.{key}"


async def test_who_may_show_the_pages_in_a_frame_is_a_setting() -> None:
    for setting, expected in (({}, "frame-ancestors 'self'"), ({"frame_ancestors": "https://a.example"}, "https://a")):
        async with (
            running_server({"server": setting}) as server,
            aiohttp.ClientSession() as http,
            http.get(server.url("/sender")) as page,
        ):
            assert expected in page.headers["Content-Security-Policy"]
            assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_is_asked_of_the_world_outside(server: RunningServer) -> None:
    async with voice_sender(server.ws_url) as sender:
        candidates = re.findall(r"^a=candidate:.* typ (\w+)", sender.answer_sdp, re.MULTILINE)
    assert set(candidates) == {"host"}
