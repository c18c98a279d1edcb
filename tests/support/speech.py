"""Spoken samples, made by espeak-ng."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from tests.support.audio import Samples, decode_audio
from tests.support.availability import require_program

# About ten seconds each, with many different sounds and no pause of half a second.
TEXT = (
    "The quick brown fox jumps over the lazy dog near the riverbank. Dinner is ready, please come down to the kitchen! "
    "A package was left at the front door at twenty past seven."
)
OTHER_TEXT = (
    "Eleven wizards quietly mixed a jug of purple vapour. Have you closed the garage and switched off all the lights? "
    "Tomorrow morning the train leaves fifteen minutes earlier."
)


def synthesise(text: str = TEXT, *, voice: str = "en") -> Samples:
    """Speak a text, always in the same way, without silence before and after; ends the test as unavailable without
    espeak-ng."""
    command: list[str | Path] = [require_program("espeak-ng"), "-v", voice, "-s", "160", "--stdout", text]
    spoken = decode_audio(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
    loud = np.flatnonzero(np.abs(spoken) > 0.02)
    return spoken[loud[0] : loud[-1] + 1]
