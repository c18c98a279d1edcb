"""Inputs that a fuzzer found worth keeping, and its seeds: none of them makes a handler fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import CORPUS, Targets


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    made = Targets()
    yield made
    made.close()


@pytest.mark.parametrize("name", list(seeds()))
def test_no_input_of_the_corpus_makes_a_handler_fail(targets: Targets, name: str) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for data in seeds()[name] + kept:
        targets.by_name()[name](data)


def test_a_failure_would_be_seen(targets: Targets) -> None:
    """What a handler only logs fails the target, too."""

    class Broken:
        def on_packet(self, packet: object) -> None:
            raise ZeroDivisionError

        def on_end(self) -> None:
            raise ZeroDivisionError

    broken = Broken()
    targets._sender.track.attach(broken)
    with pytest.raises(AssertionError, match="Broken failed"):
        targets.rtp(seeds()["rtp"][0])
    targets._sender.track.detach(broken)
