"""A missing program is never passed over in silence."""

from __future__ import annotations

import pytest

from tests.support.availability import require_program

MISSING = "a-program-that-nobody-has"


def test_a_missing_program_skips_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{MISSING} is not installed"):
        require_program(MISSING)


def test_a_missing_program_fails_in_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{MISSING} is not installed"):
        require_program(MISSING)


def test_any_of_the_names_will_do() -> None:
    assert require_program(MISSING, "sh").name == "sh"
