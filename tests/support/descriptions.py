"""Session descriptions as real browsers wrote them."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent.parent / "descriptions"


def browser_sdp(name: str) -> str:
    """The text of `tests/descriptions/<name>.sdp`, line ends as they came; its README says what each one is."""
    return (_FOLDER / f"{name}.sdp").read_bytes().decode()
