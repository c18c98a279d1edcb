"""Who tries tokens: answered more slowly, and told to whoever reads the log."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from .tcp_ports import address_key

logger = logging.getLogger(__name__)

MOST_WRONG_TOKENS = 10
"""Of one address; a page with an outdated token makes one or two until somebody reads what it says."""
FORGOTTEN_S = 600.0
"""After so long without another one an address is like any other. fail2ban's `findtime` is as long."""
DELAY_S = 2.0
"""How much later each further one is answered: as long as PAM lets wrong passwords wait."""
MOST_ADDRESSES = 4096
"""That are remembered; the one that tried longest ago is forgotten for another."""


@dataclass
class _Attempts:
    count: int
    last_s: float


class WrongTokens:
    """Counts by address (IPv6: by /64 network)."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    def note(self, address: str) -> None:
        """One came from there. The log gets one line an address: no token, nothing that its client wrote."""
        now_s = time.monotonic()
        key = address_key(address)
        attempts = self._attempts.pop(key, None)
        if attempts is None or now_s - attempts.last_s > FORGOTTEN_S:
            attempts = _Attempts(0, now_s)
        attempts.count += 1
        attempts.last_s = now_s
        self._attempts[key] = attempts
        if len(self._attempts) > MOST_ADDRESSES:
            self._attempts.popitem(last=False)
        if attempts.count == MOST_WRONG_TOKENS:
            logger.warning("%d wrong tokens from %s", MOST_WRONG_TOKENS, address)

    def delay_s(self, address: str) -> float:
        """How long to wait with the answer to a wrong token from there."""
        attempts = self._attempts.get(address_key(address))
        return DELAY_S if attempts is not None and attempts.count >= MOST_WRONG_TOKENS else 0.0
