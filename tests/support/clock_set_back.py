"""The daemon with a wall clock that SIGUSR1 sets back by an hour.

A mock: the real clock is everybody's on this machine, and Linux's time namespaces do not cover it. It is set back for
Python's `time.time` alone.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

STEP_S = 3600
SAID = "The clock was set back"

_real_time = time.time
_offset_s = 0


def set_back(number: int, frame: object) -> None:
    global _offset_s
    _offset_s = STEP_S
    sys.stdout.write(f"{SAID}\n")


time.time = lambda: _real_time() - _offset_s
signal.signal(signal.SIGUSR1, set_back)

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from webrtc_server_relay import main

    sys.exit(main())
