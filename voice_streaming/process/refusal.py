"""The exception for a client's request that is refused."""

from __future__ import annotations


class Refused(Exception):
    """The request changes nothing. `code` is for programs, the text for people; both are sent to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
