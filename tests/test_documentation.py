"""What `docs/architecture.md` and `CONTRIBUTING.md` name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("docs/architecture.md", "CONTRIBUTING.md")
_PATH = re.compile(r"`((?:[\w.-]+/)*[\w.-]+(?:/|\.(?:py|md|sh|toml|yaml)))(?::([\w.]+))?`")
"""A file or a folder, and for Python perhaps a name in it: `a/b.py:Class.method`."""


def named(document: str) -> list[tuple[str, str]]:
    return _PATH.findall((ROOT / document).read_text())


def defined(path: Path) -> set[str]:
    """Functions, classes and their methods, as `name` and `Class.name`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
                names.update(f"{node.name}.{method.name}" for method in methods)
    return names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_and_name_exists(document: str) -> None:
    found = named(document)
    assert len(found) > 10
    missing = [
        f"{path}:{name}" if name else path
        for path, name in found
        if not (ROOT / path).exists() or (name and name not in defined(ROOT / path))
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    folder = (ROOT / document).parent
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()) if "://" not in target]
    assert [target for target in targets if not (folder / target).exists()] == []


def test_every_folder_of_the_package_has_its_line() -> None:
    folders = {f"voice_streaming/{path.parent.name}/" for path in (ROOT / "voice_streaming").glob("*/__init__.py")}
    assert folders <= {path for path, _ in named("docs/architecture.md")}
