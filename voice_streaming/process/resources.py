"""Resources of the process: the limit of open files, garbage collection, and figures that show a leak."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
from pathlib import Path

FILES_BESIDE_CONNECTIONS = 64
"""For listening sockets, media sockets, certificates, the log and Python's own files."""

FULL_COLLECTION_AFTER = 1000
"""Third threshold of `gc.set_threshold`: collections of the middle generation, one for some 7,000 new objects, before a
full collection. Python's default is 10. A full collection under a flood of connections took half a second, and it finds
next to nothing, as closed connections leave no reference cycles."""


def raise_file_limit(needed: int) -> str | None:
    """Raises the limit of open files to the hard limit (setrlimit(2)).

    Returns None when the limit is at least `needed`, else a warning of one line.
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
    """Exempts every object that exists now from garbage collection, and makes full collections rare.

    To be called when everything is loaded. A full collection stops the event loop while it visits every object: 0.2 s
    were measured with 400 receivers. It can wait, as closed peers leave no reference cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, FULL_COLLECTION_AFTER)


def process_figures() -> dict[str, int]:
    """For `/metrics`: figures that grow when something leaks; those that the system does not offer are left out."""
    figures = {"tasks": len(asyncio.all_tasks())}
    with contextlib.suppress(OSError):
        figures["open_files"] = len(os.listdir("/dev/fd"))
    if sys.platform == "linux":
        figures["threads"] = len(os.listdir("/proc/self/task"))
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        figures["resident_bytes"] = resident_pages * resource.getpagesize()
    return figures
