"""Keys with which a sender takes its stream up again."""

from __future__ import annotations

import hashlib
import secrets

_KEY_BYTES = 16


def new_key() -> str:
    """128 random bits, as text."""
    return secrets.token_urlsafe(_KEY_BYTES)


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()
