"""An id by which other programs know this server again, whatever its name and address are."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path

from ..settings.model import ConfigError, ServerSettings, data_folder
from .private_files import name_unless_taken, private_file_beside

_ID = re.compile(r"[0-9a-f]{32}")


class NoServerId(Exception):
    """The id can be neither read nor kept; the message is one line that says why and what to do."""


def server_id(server: ServerSettings, environment: Mapping[str, str]) -> str:
    """32 hexadecimal digits, made at the first call and kept in the data folder as `server-id`. Raises NoServerId."""
    try:
        path = data_folder(server, environment) / "server-id"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _kept_id(path)
    except ConfigError as error:
        raise NoServerId(str(error)) from error
    except OSError as error:
        raise NoServerId(f"{path}: {error.strerror or error}; set server.data_dir to another folder") from error


def _kept_id(path: Path) -> str:
    """Raises OSError, NoServerId."""
    if not path.exists():
        with private_file_beside(path, f"{uuid.uuid4().hex}\n".encode()) as new:
            name_unless_taken(new, path)  # Where another was faster, its id is as good.
    kept = path.read_bytes().strip().decode(errors="replace")
    if not _ID.fullmatch(kept):
        raise NoServerId(f"{path} holds no id: remove the file, and a new one is made")
    return kept
