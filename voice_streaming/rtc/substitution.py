"""Replacing a library object's own attribute by something of ours."""

from __future__ import annotations


def substitute(owner: object, name: str, value: object) -> None:
    """Sets the attribute. Raises AttributeError where there is none of that name: the library has changed."""
    if not hasattr(owner, name):
        raise AttributeError(f"{type(owner).__name__} has no {name}: see what became of it, then voice_streaming/rtc")
    setattr(owner, name, value)
