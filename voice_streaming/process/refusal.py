"""The one exception for what a client asked and does not get."""

from __future__ import annotations


class Refused(Exception):
    """A request changed nothing. `code` is for programs, the text for people; both go to the client as they are."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
