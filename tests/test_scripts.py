"""The run command and the check of the pages, on a copy of its own with requirements that need no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.availability import require_program
from tests.support.server import REPOSITORY

# Making environments takes its time on a busy machine.
pytestmark = pytest.mark.timeout(150)

SERVER = "import sys; print('server', *sys.argv[1:]); sys.exit(7)"
# What scripts/run.sh uses besides Python; a PATH of these and nothing else has no Python.
TOOLS = ("bash", "dirname", "cksum", "cat", "touch", "rm")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository without requirements, whose server prints its arguments; its .venv is made by the first test."""
    root = tmp_path_factory.mktemp("with a space") / "voice"
    shutil.copytree(REPOSITORY / "scripts", root / "scripts")
    (root / "requirements.txt").write_text("# nothing\n")
    (root / "webrtc_server_relay.py").write_text(SERVER)
    yield root
    shutil.rmtree(root)


def run(
    root: Path, *arguments: str, script: str = "run.sh", path: str = os.environ["PATH"], **variables: str
) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, root / "scripts" / script, *arguments],
        cwd="/",
        env={"PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
def test_first_start_installs_and_hands_arguments_and_exit_code_through(copy: Path) -> None:
    ended = run(copy, "--host", "a b")
    assert ended.stdout == "server --host a b\n"
    assert "Making a virtual environment" in ended.stderr
    assert "Installing requirements.txt" in ended.stderr
    assert ended.returncode == 7


def test_second_start_says_and_installs_nothing(copy: Path) -> None:
    ended = run(copy, "again")
    assert (ended.stdout, ended.stderr) == ("server again\n", "")


@pytest.mark.slow
def test_changed_requirements_are_installed_and_a_failure_is_repaired_at_the_next_start(copy: Path) -> None:
    (copy / "requirements.txt").write_text("./no-such-package\n")
    failed = run(copy)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "Could not install requirements.txt" in failed.stderr

    (copy / "requirements.txt").write_text("# nothing, again\n")
    (copy / ".venv" / "half-installed").touch()
    repaired = run(copy)
    assert repaired.stdout == "server\n"
    assert "Making a virtual environment" in repaired.stderr
    assert not (copy / ".venv" / "half-installed").exists()


def check_pages(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(root, script="check-pages.sh", **variables)


@pytest.fixture
def node(copy: Path) -> Iterator[Path]:
    """The copy with a node and an npm that tell how they are called; npm fails while there is a file `offline`."""
    stubs = {
        "node": '[ "$1" = --version ] || echo "node $*"; ! [ -e "fail ${1##*/}" ]',
        "npm": 'echo "npm $1" >&2; mkdir -p node_modules; ! [ -e offline ]',
    }
    for name, body in stubs.items():
        stub = copy / ".venv" / "bin" / name
        stub.write_text(f"#!/bin/sh\n{body}\n")
        stub.chmod(0o755)
    for name in ("requirements-dev.txt", "package.json", "package-lock.json"):
        (copy / name).write_text("")
    yield copy
    shutil.rmtree(copy / "node_modules", ignore_errors=True)
    for name in stubs:
        (copy / ".venv" / "bin" / name).unlink()


def test_pages_are_checked_with_packages_that_are_installed_once(node: Path) -> None:
    first, again = check_pages(node), check_pages(node)
    assert first.returncode == again.returncode == 0
    assert "npm ci" in first.stderr
    assert again.stderr == ""
    for ended in (first, again):
        assert [line.split()[1] for line in ended.stdout.splitlines()] == [
            "node_modules/typescript/bin/tsc",
            "node_modules/eslint/bin/eslint.js",
            "--test",
        ]
    (node / "package-lock.json").write_text("{}")
    assert "npm ci" in check_pages(node).stderr


@pytest.mark.parametrize("check", ["tsc", "eslint.js", "--test"])
def test_a_check_of_the_pages_that_fails_is_a_failure(node: Path, check: str) -> None:
    failing = node / f"fail {check}"
    failing.touch()
    try:
        assert check_pages(node).returncode == 1
    finally:
        failing.unlink()


def test_pages_are_not_checked_where_npm_fails_unless_nothing_may_be_missing(node: Path) -> None:
    offline = node / "offline"
    offline.touch()
    try:
        ended, strict = check_pages(node), check_pages(node, CI="true")
    finally:
        offline.unlink()
    for answer in (ended, strict):
        assert answer.stdout == ""
        assert "The modules of the pages are not checked: npm could not install" in answer.stderr
    assert (ended.returncode, strict.returncode) == (0, 1)
    assert check_pages(node).stdout


def test_pages_are_not_checked_without_node(node: Path) -> None:
    (node / ".venv" / "bin" / "node").write_text("#!/bin/sh\nexit 127\n")
    ended, strict = check_pages(node), check_pages(node, CI="true")
    assert ended.stderr.splitlines()[-1].startswith("The modules of the pages are not checked:")
    assert (ended.returncode, strict.returncode) == (0, 1)


def test_without_a_python_that_is_new_enough_one_line_says_so(copy: Path, tmp_path: Path) -> None:
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    shutil.rmtree(copy / ".venv")
    ended = run(copy, path=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Python 3.11 or newer is needed")
    assert "command not found" not in ended.stderr


def test_a_python_that_is_supported_is_preferred_to_a_newer_one(tmp_path: Path) -> None:
    find = f'. "{REPOSITORY}/scripts/python-environment.sh"; find_python'

    def place(name: str, version: str) -> str:
        """A command that takes this for its version, on a PATH that has no other Python."""
        said = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{said}' \"$2\"\n")
        command.chmod(0o755)
        return f"{command}\n"

    def found() -> str:
        return subprocess.check_output(["bash", "-euc", find], env={"PATH": str(tmp_path)}, text=True)

    (tmp_path / "bash").symlink_to(shutil.which("bash") or "bash")
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "dirname")
    assert found() == ""
    place("python", "(3, 10, 9)")
    assert found() == ""
    newer = place("python3", "(3, 15, 0)")
    assert found() == newer
    oldest = place("python3.11", "(3, 11, 0)")
    assert found() == oldest
    newest = place("python3.14", "(3, 14, 0)")
    assert found() == newest
    default = place("python3", "(3, 12, 0)")
    assert found() == default


@pytest.mark.any_python
def test_scripts_are_clean() -> None:
    shellcheck = require_program("shellcheck")
    scripts = [*(REPOSITORY / "scripts").glob("*.sh"), REPOSITORY / ".ci" / "run"]
    ended = subprocess.run([shellcheck, "-x", *scripts], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
