"""Signed tokens, and the grants that tokens stand for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import jwt

from ..streams.grants import Grant, Scope

_ALGORITHM = "HS256"


def new_token(
    secret: str, scopes: Iterable[str], streams: Iterable[str], days: float, rooms: Iterable[str] = ()
) -> str:
    """A signed token for these scopes, valid for `days` from now; `streams` and `rooms` as for a grant, empty: None."""
    claims: dict[str, Any] = {"scope": " ".join(scopes), "exp": round(time.time() + days * 86_400)}
    if names := list(streams):
        claims["streams"] = names
    if names := list(rooms):
        claims["rooms"] = names
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def signed_grant(token: str, secret: str) -> Grant | None:
    """The grant of a JWT (RFC 7519; `scope` as in RFC 8693 section 4.2) of ours; None if it is not valid now."""
    try:
        # `iat` is not checked, so that a clock that was set back does not lock everybody out.
        claims = jwt.decode(token, secret, algorithms=[_ALGORITHM], options={"verify_iat": False})
        return grant_of(claims["scope"].split(), claims.get("streams"), claims.get("rooms"))
    except (jwt.PyJWTError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def grant_of(scopes: Iterable[str], streams: Sequence[str] | None, rooms: Sequence[str] | None = None) -> Grant:
    """Raises ValueError for an unknown scope, TypeError when `streams` or `rooms` is not a list of names."""
    return Grant(frozenset(Scope(scope) for scope in scopes), _names(streams), _names(rooms))


def _names(names: Sequence[str] | None) -> frozenset[str] | None:
    if isinstance(names, str):
        raise TypeError("a list of names is needed")
    return None if names is None else frozenset(names)
