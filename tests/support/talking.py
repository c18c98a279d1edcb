"""Somebody who talks while a test does something else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.support.rtc_client import LOOPBACK, VoiceSender, voice_sender


@asynccontextmanager
async def talking(
    ws_url: str, name: str, payloads: Sequence[bytes], *, address: str = LOOPBACK
) -> AsyncIterator[VoiceSender]:
    """A sender whose stream is live, and which says the payloads over and over while the block runs."""
    async with voice_sender(ws_url, name=name, address=address) as sender:
        saying = asyncio.ensure_future(sender.send(itertools.cycle(payloads)))
        try:
            await sender.signalling.expect("stream_available")
            yield sender
        finally:
            saying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saying
