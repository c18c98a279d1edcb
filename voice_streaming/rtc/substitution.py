"""Replacing an attribute of a library's object."""

from __future__ import annotations


def substitute(owner: object, name: str, value: object) -> None:
    """Sets the attribute. Raises AttributeError when there is none of that name, as the library has changed."""
    if not hasattr(owner, name):
        raise AttributeError(f"{type(owner).__name__} has no {name} any more, which voice_streaming/rtc replaces")
    setattr(owner, name, value)
