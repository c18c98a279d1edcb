"""Mutation tests: how many small faults of a module its own tests find. See README.md.

    python -m tests.mutation.run                     every mutant of the list, and the verdicts written into it
    python -m tests.mutation.run --module media/pcm  of these modules alone
    python -m tests.mutation.run --survivors         those alone that nothing has killed yet
    python -m tests.mutation.run --sample            takes those off that are gone, and makes the list up by chance

Tests run on a copy of the tree; the exit code is 1 where a mutant is left.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.mutants import LIST, Mutant, all_mutants, read_list, write_list

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = 12
MUTANTS_PER_MODULE = 9

_CHANNELS = ("listening/test_channels.py", "listening/test_channels_failures.py", "listening/test_channels_sound.py")

TESTS: dict[str, tuple[str, ...]] = {
    "access/access": ("access/test_access.py",),
    "access/limits": ("access/test_limits.py",),
    "access/paced_protocol": ("access/test_paced_protocol.py", "access/test_tcp_ports.py"),
    "access/tcp_ports": ("access/test_tcp_ports.py",),
    "access/tokens": ("access/test_tokens.py", "access/test_access.py"),
    "listening/icy": ("listening/test_icy.py",),
    "listening/lame": ("listening/test_lame.py",),
    "listening/listeners": ("listening/test_listeners.py",),
    "listening/mp3": ("listening/test_mp3.py", *_CHANNELS),
    "media/levels": ("media/test_levels.py",),
    "media/opus": ("media/test_opus.py",),
    "media/pcm": ("media/test_pcm.py",),
    "media/playout": ("media/test_playout.py",),
    "rtc/batch": ("rtc/test_batch.py",),
    "rtc/fanout": ("rtc/test_fanout.py",),
    "rtc/rtp": ("rtc/test_rtp.py",),
    "rtc/sdp": ("rtc/test_sdp.py",),
    "rtc/srtp": ("rtc/test_srtp.py",),
    "streams/pcm_source": ("streams/test_pcm_source.py",),
    "streams/relay": ("streams/test_relay.py",),
    "listening/channels": _CHANNELS,
    "listening/backlog": ("listening/test_backlog.py",),
    "process/failures": ("process/test_failures.py",),
    "rtc/description": ("rtc/test_description.py",),
    "streams/source": ("streams/test_source.py",),
    "streams/timeline": ("streams/test_timeline.py",),
}
"""The modules that are mutated, and each one's own tests, below `tests`; the quickest first."""

_PRELOADED = ("aiohttp", "aiortc", "av", "hypothesis", "jwt", "msgspec", "numpy", "playwright.async_api", "pylibsrtp")
"""Libraries that tests import: loaded once, before the processes that run tests are forked."""
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "docs", "mutation")
_PYTEST = ("-x", "-q", "--no-header", "--tb=no", "--timeout=0", "-p", "no:cacheprovider", "-m", "not alone and not e2e")
_LEFT_OUT = ("--deselect=tests/media/test_playout.py::test_a_senders_clock_that_is_wrong[200-",)
"""A simulated day, which takes a minute; an hour or two of the same are tested beside it."""
_REPEATABLE = ("--hypothesis-seed=0",)
_TIMEOUT_FACTOR = 4
_TIMEOUT_GRACE_S = 30.0
_BASELINE_TIMEOUT_S = 600.0


def main() -> int:
    options = _parse_options()
    if options.sample:
        write_list(_sample(read_list()))
        return 0
    mutants = read_list()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for number, mutant in enumerate(mutants):
            if _is_wanted(mutant, options):
                mutants[number] = runner.judged(mutant)
                # Again and again, so that a run that is interrupted has done something.
                write_list(mutants)
    return _report(mutants)


def _is_wanted(mutant: Mutant, options: argparse.Namespace) -> bool:
    if options.module and mutant.module not in options.module:
        return False
    if mutant.verdict == "equivalent":
        return False
    return not options.survivors or mutant.verdict != "killed"


def _sample(before: list[Mutant]) -> list[Mutant]:
    """Those of the list whose text is still there; each module's sample is made up to the full number by chance.

    In the modules' order; those that were chosen come last, and take no place of a sample's.
    """
    here = [mutant for mutant in before if _is_there(mutant)]
    known = {_without_verdict(mutant) for mutant in here}
    sampled = []
    for module in TESTS:
        own = [mutant for mutant in here if mutant.sampled and mutant.module == module]
        possible = [mutant for mutant in all_mutants(module, _source(module)) if mutant not in known]
        # Each module by a seed of its own: a change of one leaves the samples of the others as they are.
        dice = random.Random(f"{SEED} {module}")
        sampled += own + dice.sample(possible, min(max(0, MUTANTS_PER_MODULE - len(own)), len(possible)))
    return sampled + [mutant for mutant in here if not mutant.sampled]


def _without_verdict(mutant: Mutant) -> Mutant:
    return replace(mutant, verdict="", reason="", sampled=True)


def _is_there(mutant: Mutant) -> bool:
    try:
        mutant.applied_to(_source(mutant.module))
    except LookupError:
        return False
    return True


def _source(module: str) -> str:
    return (ROOT / "voice_streaming" / f"{module}.py").read_text()


def _report(mutants: list[Mutant]) -> int:
    """Prints what is left; 0 where nothing survived."""
    counts = {verdict: sum(mutant.verdict == verdict for mutant in mutants) for verdict in ("killed", "equivalent")}
    left = [mutant for mutant in mutants if mutant.verdict not in counts]
    for mutant in left:
        print(
            f"{mutant.verdict or 'not run'}: {mutant.module}: {mutant.function}: {mutant.original} -> {mutant.mutated}"
        )
    share = counts["killed"] / max(len(mutants) - counts["equivalent"], 1)
    print(f"{len(mutants)} mutants: {counts['killed']} killed, {counts['equivalent']} equivalent, {len(left)} left")
    print(f"killed of those that are not equivalent: {share:.1%}")
    return 1 if left else 0


class Runner:
    """Runs tests on a copy of the tree, in a process of their own that is forked once the libraries are loaded."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._output = folder / "output.txt"
        self._timeouts_s: dict[str, float] = {}
        shutil.copytree(ROOT, self._tree, ignore=_NOT_COPIED)
        for name in _PRELOADED:
            importlib.import_module(name)

    def judged(self, mutant: Mutant) -> Mutant:
        """With its verdict. Raises RuntimeError where the module's tests fail without it too."""
        path = self._tree / "voice_streaming" / f"{mutant.module}.py"
        source = path.read_text()
        try:
            mutated = mutant.applied_to(source)
        except LookupError as error:
            print(f"gone: {error}", flush=True)
            return replace(mutant, verdict="gone", reason="")
        timeout_s = self._timeout_s(mutant.module)
        path.write_text(mutated)
        try:
            began_s = time.monotonic()
            code = self._run(mutant.module, timeout_s)
        finally:
            path.write_text(source)
        verdict, reason = ("survived", "") if code == 0 else ("killed", self._failed() if code else "it takes too long")
        print(
            f"{verdict:9}{time.monotonic() - began_s:6.1f} s  {mutant.module}: {mutant.mutated!r} {reason}", flush=True
        )
        return replace(mutant, verdict=verdict, reason=reason)

    def _timeout_s(self, module: str) -> float:
        if module not in self._timeouts_s:
            began_s = time.monotonic()
            if self._run(module, _BASELINE_TIMEOUT_S) != 0:
                raise RuntimeError(f"the tests of {module} fail without a mutation:\n{self._output.read_text()}")
            self._timeouts_s[module] = _TIMEOUT_FACTOR * (time.monotonic() - began_s) + _TIMEOUT_GRACE_S
        return self._timeouts_s[module]

    def _run(self, module: str, timeout_s: float) -> int | None:
        """pytest's exit code; None where it took longer."""
        child = os.fork()
        if child == 0:
            self._run_tests(module)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                _end_group(child)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        _end_group(child)
        os.waitpid(child, 0)
        return None

    def _run_tests(self, module: str) -> None:
        """Never returns."""
        os.setsid()
        os.chdir(self._tree)
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # A module that is as long as before and of the same second would be taken from its compiled file.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "voice_streaming")]:
            del sys.modules[name]
        sys.path.insert(0, str(self._tree))
        tests = [f"tests/{name}" for name in TESTS[module]]
        code: int = 1
        try:
            code = pytest.main([*_PYTEST, *_LEFT_OUT, *_REPEATABLE, *tests])
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _failed(self) -> str:
        """The first test that failed, or that nothing could be run."""
        found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", self._output.read_text(), re.MULTILINE)
        return found.group(1) if found else "nothing can be imported"


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # Nothing of it is left.


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", choices=TESTS, help="only of this module; may be repeated")
    parser.add_argument("--survivors", action="store_true", help="only those that have not been killed")
    parser.add_argument("--sample", action="store_true", help=f"bring {LIST.name} up to date, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
