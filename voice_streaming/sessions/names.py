"""Names beyond this server: in a cluster, another one may have them."""

from __future__ import annotations

from typing import Protocol

from .claim import Claim


class Names(Protocol):
    """Who has which name, where this server is not alone."""

    def check(self, claim: Claim) -> None:
        """Raises Refused `name_taken` where another server has the name, and the claim is not good for it."""

    async def hold(self, claim: Claim, resume: bytes) -> None:
        """Makes the name this server's, if nobody talks under it elsewhere. Raises Refused `name_taken`.

        `resume`: the digest of the key with which its sender takes it up again.
        """
