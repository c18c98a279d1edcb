"""Fixtures for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audio import Samples, write_wav
from tests.support.speech import synthesise


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
