"""The pages as they are sent, on both ports."""

from __future__ import annotations

import json
import re

import aiohttp
import pytest

from tests.support.server import RunningServer
from voice_streaming.web.languages import COOKIE, words

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATHS = ("/", "/sender", "/receiver", "/certificate")
BROWSER = {"Sec-Fetch-Dest": "document"}


def addresses(server: RunningServer) -> list[str]:
    return [*map(server.url, PATHS), server.audio_url("/stream/latest.mp3")]


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
async def test_each_page_is_in_the_language_of_the_browser_and_says_so(
    pages_daemon: RunningServer, language: str
) -> None:
    headers = {**BROWSER, "Accept-Language": f"{language}-XX,en;q=0.1"}
    async with aiohttp.ClientSession() as http:
        for address in addresses(pages_daemon):
            async with http.get(address, headers=headers) as response:
                assert (response.status, response.content_type) == (200, "text/html")
                assert response.headers["Content-Language"] == language
                assert {"Accept-Language", "Cookie"} <= set(response.headers["Vary"].split(", "))
                assert f'<html lang="{language}">' in await response.text()


async def test_a_choice_counts_more_than_the_browser(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def language(query: str, cookie: str) -> str:
            headers = {**BROWSER, "Accept-Language": "de", "Cookie": f"{COOKIE}={cookie}"}
            async with http.get(pages_daemon.url(f"/sender{query}"), headers=headers) as response:
                return response.headers["Content-Language"]

        assert await language("", "fr") == "fr"
        assert await language("?lang=es", "fr") == "es"
        assert await language("?lang=xx", "../fr") == "de"


async def test_a_page_that_has_not_changed_is_not_sent_again(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http:
        for address in (pages_daemon.url("/sender"), pages_daemon.url("/static/words-de.js")):
            async with http.get(address) as response:
                assert response.headers["Cache-Control"] == "no-cache"
                tag = response.headers["ETag"]
            async with http.get(address, headers={"If-None-Match": f'"other", {tag}'}) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == tag
            other = {"If-None-Match": tag, "Accept-Language": "fr"}
            async with http.get(pages_daemon.url("/sender"), headers=other) as response:
                assert response.status == 200


async def test_the_words_of_scripts_are_there_on_both_ports(pages_daemon: RunningServer) -> None:
    async with aiohttp.ClientSession() as http:
        for address in (pages_daemon.url("/static/words-de.js"), pages_daemon.audio_url("/static/words-de.js")):
            async with http.get(address) as response:
                assert (response.status, response.content_type) == (200, "text/javascript")
                found = re.fullmatch(r"globalThis\.voiceWords = (.*);\n", await response.text())
                assert found is not None
                assert json.loads(found[1]) == words("de")["scripts"]
        async with http.get(pages_daemon.url("/static/words-xx.js")) as response:
            assert response.status == 404
