"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.audio import Samples, write_wav
from tests.support.browsers import BROWSERS, BrowserPage, browser_page
from tests.support.server import RunningServer, running_server
from tests.support.speech import synthesise

# A busy machine makes no difference to what is tested.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")


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


@pytest.fixture(params=BROWSERS)
async def speaking_page(request: pytest.FixtureRequest, speech_wav: Path) -> AsyncIterator[BrowserPage]:
    """An empty page in each of the browsers, with the speech as its microphone."""
    async with browser_page(request.param, microphone=speech_wav) as page:
        yield page
