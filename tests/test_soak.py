"""A short run of benchmarks/soak.py: a crowd that does not behave, beside voices that must not notice."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.process import child_process
from tests.support.server import REPOSITORY

SOAK = REPOSITORY / "benchmarks" / "soak.py"


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_a_crowd_leaves_the_server_as_it_was_and_the_voices_whole() -> None:
    arguments = ["--minutes", "0.4", "--timeout", "8", "--actors", "12", "--seed", "test", "--json"]
    async with child_process([sys.executable, SOAK, *arguments]) as soak:
        await soak.wait(timeout_s=110)
    result = json.loads(soak.log[-1])
    assert result["trouble"] == []
    assert result["crowd"]["speak"] > 0
    assert result["crowd"]["receive"] > 0
    # Threads of asyncio's own pool may stay, and at first some tasks of joining are still there.
    leftovers = {name: count for name, count in result["leftovers"].items() if name != "threads"}
    assert [name for name, count in leftovers.items() if count > 0] == []
    assert len(result["minutes"]) >= 3
    for minute in result["minutes"]:
        assert minute["expected"] > 100
        if minute["is_quiet"]:
            assert minute["lost"] <= minute["doubtful"], soak.log_text()
