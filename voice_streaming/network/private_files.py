"""Files with keys: for their owner alone, and never half-written."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def read_private(path: Path) -> bytes:
    """The content of a file with a key, which others may not read from now on."""
    close_to_others(path, 0o600)
    return path.read_bytes()


def close_to_others(path: Path, mode: int) -> None:
    # Windows has no such bits: there a folder of the user is the user's own.
    if os.name != "posix" or not path.stat().st_mode & 0o077:
        return
    try:
        path.chmod(mode)
    except OSError as error:
        logger.warning("%s is open to other users of this machine, and cannot be closed: %s", path, error.strerror)
    else:
        logger.warning("%s was open to other users of this machine: it is closed to them now", path)


@contextlib.contextmanager
def private_file_beside(path: Path, content: bytes) -> Iterator[Path]:
    """A complete file in the same folder that only its owner may read, to be given the name `path`; gone at the end
    under its own name."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield new
    finally:
        with contextlib.suppress(FileNotFoundError):  # Renamed, as it should be.
            new.unlink()


def name_unless_taken(new: Path, path: Path) -> bool:
    """Gives the file the name `path`; False where another process that shares the folder was faster."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        return False
    except OSError:
        new.replace(path)  # A file system without hard links.
    return True
