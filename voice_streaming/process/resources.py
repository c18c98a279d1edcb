"""The process itself: how many files it may open, and how late its event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
from pathlib import Path

FILES_BESIDE_CONNECTIONS = 64
"""Listening sockets, media sockets, certificates, the log, and what Python has open itself."""

FULL_COLLECTION_AFTER = 1000
"""Collections of the middle generation, some 7,000 new objects each, before a full one: a hundred times Python's own.
What closes leaves next to nothing for it, and one in the middle of a flood took half a second."""


def raise_file_limit(needed: int) -> str | None:
    """Raises the limit of open files to the hard limit (setrlimit(2)).

    Returns None when `needed` files fit, else one line that says what does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # macOS refuses more than kern.maxfilesperproc, whatever the hard limit says.
        limit = soft
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return None
    return (
        f"The limit of open files is {limit}, and {needed} may be needed: raise it (ulimit -n), "
        f"or lower server.max_connections and audio.max_listeners"
    )


def reduce_garbage_collection() -> None:
    """To be called when all is loaded: the collector then never looks at that again, and seldom at all of the rest.

    A full collection holds all voices up for as long as it looks at everything: 0.2 s were measured with 400 receivers.
    Peers leave nothing for it behind, so it may wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, FULL_COLLECTION_AFTER)


def process_figures() -> dict[str, int]:
    """What `/metrics` says of the process: what a leak shows in. What the system does not tell is left out."""
    figures = {"tasks": len(asyncio.all_tasks())}
    with contextlib.suppress(OSError):
        figures["open_files"] = len(os.listdir("/dev/fd"))
    if sys.platform == "linux":
        figures["threads"] = len(os.listdir("/proc/self/task"))
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        figures["resident_bytes"] = resident_pages * resource.getpagesize()
    return figures
