"""Prints the table of docs/settings.md, from `voice_streaming/settings/model.py`: keys, defaults and docstrings.

    python scripts/settings_table.py

`tests/test_readme.py` holds the document to it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from voice_streaming.settings import model as config  # noqa: E402 - the path is set just before


def table() -> str:
    """Markdown: one row for each key of `Settings`."""
    rows = ["| key | default | |", "|---|---|---|"]
    descriptions = _descriptions()
    defaults = msgspec.to_builtins(config.Settings())
    for section in msgspec.structs.fields(config.Settings):
        if section.name in descriptions["Settings"]:
            # By names, or a list of names.
            shown = msgspec.json.encode(defaults[section.name]).decode()
            rows.append(f"| `{section.name}` | `{shown}` | {descriptions['Settings'][section.name]} |")
            continue
        for key, default in defaults[section.name].items():
            description = descriptions[section.type.__name__].get(key, "")
            shown = msgspec.json.encode(default).decode()
            rows.append(f"| `{section.name}.{key}` | `{shown}` | {description} |")
    return "\n".join(rows)


def _descriptions() -> dict[str, dict[str, str]]:
    """By class and key, the string that stands below the key in the source."""
    source = ast.parse((ROOT / "voice_streaming" / "settings" / "model.py").read_text())
    found: dict[str, dict[str, str]] = {}
    for node in source.body:
        if isinstance(node, ast.ClassDef):
            below = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                field.target.id: " ".join(text.value.value.split()).replace("|", "\\|")
                for field, text in below
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found


if __name__ == "__main__":
    print(table())
