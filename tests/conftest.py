"""Fixtures for every test."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings
from playwright.async_api import Browser

from tests.support import forked_daemon
from tests.support.audio import Samples, encode_opus, write_wav
from tests.support.browsers import BROWSERS, BrowserPage, browser_page
from tests.support.chromium import chromium
from tests.support.live_radio import Radio, radio_with
from tests.support.server import RunningServer, running_server
from tests.support.speech import synthesise
from tests.support.voice_pages import INSECURE_NAME, Visitors, everyone_left, visitors

WEIGHTS = {"e2e": 30, "slow": 15}
"""A test with such a mark takes about so many times as long as another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first: processes that run files side by side then end at about the same time."""
    weights: Counter[Path] = Counter()
    for item in items:
        weights[item.path] += max([1, *(WEIGHTS.get(mark.name, 1) for mark in item.iter_markers())])
    items.sort(key=lambda item: -weights[item.path])


SET_TIMER = pytest.StashKey[Callable[[], object]]()


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> None:
    """Keeps how to start the test's timer."""
    item.stash.setdefault(SET_TIMER, lambda: item.ihook.pytest_timeout_set_timer(item=item, settings=settings))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A test that ran out of time has as long again to end: its timer went off, and nothing else would end a wait."""
    set_timer = item.stash.get(SET_TIMER, None)
    if set_timer is not None and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        set_timer()


def pytest_sessionfinish() -> None:
    forked_daemon.stop()


# A busy machine makes no difference to what is tested, and the same examples are tried in every run: new ones by
# `--hypothesis-profile explore`, and by tests/fuzz.
settings.register_profile("relay", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("relay")


@pytest.fixture
def untraced() -> Iterator[None]:
    """Coverage is not measured: of millions of steps that others cover, it would take ten times as long."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture(scope="session")
def speech() -> Samples:
    """About ten seconds of speech; not to be changed in place."""
    samples = synthesise()
    samples.flags.writeable = False
    return samples


@pytest.fixture(scope="session")
def speech_wav(speech: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech as a WAV file: for browsers a microphone that says it over and over."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_wav(path, speech)
    return path


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    """The daemon with default settings, but on loopback; at the end it must stop with exit code 0."""
    async with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def payloads(speech: Samples) -> list[bytes]:
    """The speech in Opus packets."""
    return encode_opus(speech)


@pytest.fixture
async def radio(payloads: list[bytes]) -> AsyncIterator[Radio]:
    """The MP3 routes in this process, with default settings."""
    async with radio_with(payloads) as running:
        yield running


@pytest.fixture(params=BROWSERS)
async def speaking_page(request: pytest.FixtureRequest, speech_wav: Path) -> AsyncIterator[BrowserPage]:
    """An empty page in each of the browsers, with the speech as its microphone."""
    async with browser_page(request.param, microphone=speech_wav) as page:
        yield page


# A module shares a daemon and, if it tests pages, a browser. Its tests need `pytest.mark.asyncio(loop_scope="module")`.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages_daemon() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages_browser(speech_wav: Path) -> AsyncIterator[Browser]:
    """A Chromium with the speech as its microphone, which takes `INSECURE_NAME` for this machine."""
    names = f"--host-resolver-rules=MAP {INSECURE_NAME} 127.0.0.1"
    async with chromium(microphone=speech_wav, arguments=[names]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def emptied_daemon(pages_daemon: RunningServer) -> AsyncIterator[RunningServer]:
    """The module's daemon, with nobody there, neither before nor afterwards."""
    yield pages_daemon
    await everyone_left(pages_daemon)


@pytest_asyncio.fixture(loop_scope="module")
async def guests(pages_browser: Browser, emptied_daemon: RunningServer) -> AsyncIterator[Visitors]:
    """Visitors of the daemon's pages."""
    async with visitors(pages_browser, emptied_daemon) as coming:
        yield coming
