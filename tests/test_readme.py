"""README.md and docs/ say what is true: the table of settings, and the files that they point to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    script = ROOT / "scripts" / "settings_table.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    document = (ROOT / "docs" / "settings.md").read_text()
    assert printed.strip() in document, "run scripts/settings_table.py, and put what it prints into docs/settings.md"
    undescribed = [line for line in printed.splitlines() if line.endswith("|  |") and not line.startswith("| key")]
    assert undescribed == []


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md"])
def test_every_file_that_it_points_to_exists(name: str) -> None:
    document = ROOT / name
    targets = [target for target in re.findall(r"\]\(([^)#]+)", document.read_text()) if "://" not in target]
    assert targets
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_the_first_screen_has_what_people_ask_first() -> None:
    """Before the first picture, and no more than 40 lines."""
    screen = README.partition("![")[0]
    assert len(screen.splitlines()) <= 40
    for words in (
        "scripts/run.sh",
        "scripts/test.sh",
        "Several talk",
        "Hold to talk",
        "How late",
        "Wall tablets",
        "To embed",
    ):
        assert words in screen
    page = (ROOT / "static" / "receiver.html").read_text()
    assert "Keep the screen on while listening" in " ".join(screen.split())
    assert "Keep the screen on while listening" in page
