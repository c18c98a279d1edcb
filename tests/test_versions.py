"""Which Pythons the unit tests run on. scripts/check_versions.py itself runs them, in full."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from scripts import check_versions
from scripts.clean_debian import Failed, Image, image_of
from scripts.dockerfile import read
from tests.support.server import REPOSITORY

IMAGE = Image("3.13", "trixie")


def command(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without any command, and no CI."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def test_the_image_is_of_a_version_that_is_supported() -> None:
    assert image_of(read(REPOSITORY / "Dockerfile")[0].base).python in check_versions.SUPPORTED
    assert image_of("python:3.13.14-slim-trixie") == IMAGE
    with pytest.raises(Failed, match="exact version"):
        image_of("python:3.13-slim-trixie")


def test_the_readme_and_the_scripts_name_the_same_versions() -> None:
    first, last = check_versions.SUPPORTED[0], check_versions.SUPPORTED[-1]
    assert f"Python {first} to {last}" in (REPOSITORY / "README.md").read_text()
    shell = (REPOSITORY / "scripts/python-environment.sh").read_text()
    (names,) = re.findall(r"for name in python3 ([python.\d ]+) python;", shell)
    assert sorted(names.split()) == [f"python{version}" for version in check_versions.SUPPORTED]


def test_an_interpreter_counts_if_it_runs_and_is_of_the_version(path: Path) -> None:
    assert check_versions.find_interpreter("3.12") is None
    command(path, "python3.12", "echo 'python3.12: command not found' >&2; exit 127")
    assert check_versions.find_interpreter("3.12") is None
    command(path, "python3.12", "echo 3.11")
    assert check_versions.find_interpreter("3.12") is None
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = command(path, f"python{running}", f'exec "{sys.executable}" "$@"')
    assert check_versions.find_interpreter(running) == own


def test_a_version_that_is_not_at_hand_is_left_out_and_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_versions.check("3.12", IMAGE, path)
    assert capsys.readouterr().out == "Python 3.12 is left out: there is no python3.12 on PATH\n"


@pytest.mark.parametrize("ci", ["true", ""])
def test_the_images_version_may_be_missing_only_outside_of_ci(
    ci: str, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    assert check_versions.check("3.13", IMAGE, path) == (ci != "true")
    assert "debootstrap" in capsys.readouterr().out
    assert list(path.iterdir()) == []


def test_one_version_that_fails_fails_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["check_versions", "3.11", "3.12", "3.14"])
    monkeypatch.setattr(check_versions, "check", lambda version, image, cache: version == "3.11")
    assert check_versions.main() == 1
    assert capsys.readouterr().out == "Unit tests fail on Python 3.12, 3.14\n"
    monkeypatch.setattr(sys, "argv", ["check_versions", "3.11"])
    assert check_versions.main() == 0


@pytest.mark.any_python
@pytest.mark.slow
def test_an_environment_is_made_once_for_the_same_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / check_versions.REQUIREMENTS[-1]
    (tmp_path / check_versions.REQUIREMENTS[0]).touch()
    requirements.touch()
    monkeypatch.setattr(check_versions, "REPOSITORY", tmp_path)
    folder = tmp_path / "cache" / "python"

    def make() -> bool:
        """Whether what was there is still there."""
        with check_versions.environment(Path(sys.executable), folder) as python:
            assert python.exists()
            kept = (folder / "mark").exists()
            (folder / "mark").touch()
        return kept

    assert [make(), make()] == [False, True]
    requirements.write_text("./no-such-package\n")
    with pytest.raises(Failed, match="no-such-package"):
        make()
    requirements.write_text("# nothing\n")
    assert [make(), make()] == [False, True]
