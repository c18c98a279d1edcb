"""Feed the network's handlers with inputs that a coverage-guided fuzzer thinks of (atheris, on Linux).

    pip install atheris
    python -m tests.fuzz.run rtp --runs 250000           one target; `all` for each in turn
    python -m tests.fuzz.run rtp --runs 250000 --keep    adds what reached new code to tests/fuzz/corpus

Ends with a traceback and a file `crash-…` at the first input that makes a handler fail. `tests/test_fuzz_corpus.py`
runs what was kept.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

_CHILD = "--child"
_MAX_INPUT_BYTES = {"signalling": 8192, "offer": 8192, "whip": 8192, "fragment": 4096}
_TARGETS = ("signalling", "offer", "whip", "fragment", "rtp", "rtcp", "stun", "datagram")
_WATCHED = ["voice_streaming", "webrtc_server_relay", "aiortc.sdp", "aiortc.rtcpeerconnection", "aioice"]
_MAX_DATAGRAM_BYTES = 1500
_MAX_KEPT = 80
"""Of each target; the longest are mutations of whole session descriptions, whose seeds are tested anyway."""


def main() -> int:
    if sys.argv[1:2] == [_CHILD]:
        _fuzz(sys.argv[2], sys.argv[3:])
        return 0
    options = _parse_options()
    names = _TARGETS if options.target == "all" else [options.target]
    return max(_run(name, options.runs, options.keep) for name in names)


def _run(name: str, runs: int, keep: bool) -> int:
    """libFuzzer ends the process that it runs in, so each target has one."""
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import CORPUS

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        found = Path(folder)
        for seed in seeds()[name]:
            _store(found, seed)
        for kept in sorted((CORPUS / name).glob("*")):
            _store(found, kept.read_bytes())
        size = _MAX_INPUT_BYTES.get(name, _MAX_DATAGRAM_BYTES)
        code = _child(name, [f"-runs={runs}", f"-max_len={size}", "-timeout=1200", "-print_final_stats=1", str(found)])
        if code == 0 and keep:
            # The fuzzer has put the smallest input that reaches something there, for each thing that it reached.
            inputs = sorted((path.read_bytes() for path in found.iterdir()), key=len)
            for data in inputs[:_MAX_KEPT]:
                _store(CORPUS / name, data)
        return code


def _child(name: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "tests.fuzz.run", _CHILD, name, *arguments]
    return subprocess.run(command, check=False).returncode


def _store(folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _fuzz(name: str, arguments: list[str]) -> None:
    import atheris

    # Coverage is watched in what is imported here.
    with atheris.instrument_imports(include=_WATCHED):
        from tests.fuzz.targets import Targets
    atheris.Setup([sys.argv[0], *arguments], Targets().by_name()[name])
    atheris.Fuzz()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*_TARGETS, "all"])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--keep", action="store_true", help="add the inputs that reached new code to the corpus")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
