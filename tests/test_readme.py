"""The README says what is true: its table of settings, and the files that it points to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    script = ROOT / "scripts" / "settings_table.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() in README, "run scripts/settings_table.py, and put what it prints into the README"
    undescribed = [line for line in printed.splitlines() if line.endswith("|  |") and not line.startswith("| key")]
    assert undescribed == []


def test_every_file_that_it_points_to_exists() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
