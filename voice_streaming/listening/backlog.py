"""What to do with a listener that does not take the audio as fast as it comes."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

MOST_LATE_S = 2.0
"""With more than this unsent, a listener is not given more of the past, but brought back to live."""

BURST_ALLOWANCE_S = 1.0
"""How much more than a long burst may be unsent: a burst is the past that a listener asked for."""

KERNEL_BUFFER_S = 0.5
"""Of audio, asked of the kernel for a listener's unsent bytes. Linux gives twice as much, for its own overhead, and by
itself would take megabytes, minutes of audio. So whatever does not keep up soon shows in the transport's buffer, and
the kernel needs to be asked for its own only then."""

LEAST_KERNEL_BUFFER_BYTES = 4608
"""SOCK_MIN_SNDBUF of Linux on 64 bits."""


@dataclass
class BacklogLimits:
    """In bytes of one listener, and seconds. Several may share one, which may change with the bit rate."""

    most_unsent_bytes: float
    chunk_bytes: int
    kernel_buffer_bytes: int
    max_backlog_s: float

    @classmethod
    def of(cls, *, bytes_per_s: float, chunk_s: float, burst_s: float, max_backlog_s: float) -> BacklogLimits:
        return cls(
            most_unsent_bytes=max(MOST_LATE_S, burst_s + BURST_ALLOWANCE_S) * bytes_per_s,
            chunk_bytes=math.ceil(chunk_s * bytes_per_s),
            kernel_buffer_bytes=max(LEAST_KERNEL_BUFFER_BYTES, round(KERNEL_BUFFER_S * bytes_per_s)),
            max_backlog_s=max_backlog_s,
        )


class Verdict(enum.Enum):
    WRITE = enum.auto()
    DROP = enum.auto()
    """It is late: the chunk is not for it."""
    DISCONNECT = enum.auto()
    """It took nothing at all for too long."""


class Backlog:
    """One listener's. Asked for each chunk while something is unsent or the listener is late, and then only."""

    def __init__(self, limits: BacklogLimits) -> None:
        self.limits = limits
        self.is_late = False
        """It gets nothing until what it has not taken is a chunk at most."""
        self._unsent_bytes = 0
        """After the chunk before."""
        self._next_frame = -1
        self._progress_s = 0.0

    def judge(self, unsent_bytes: int, frames: range, now_s: float) -> Verdict:
        """For the chunk with those frames of the clock."""
        is_new = frames.start != self._next_frame
        if is_new or unsent_bytes < self._unsent_bytes:
            self._progress_s = now_s
        self._next_frame = frames.stop
        self._unsent_bytes = unsent_bytes
        if now_s - self._progress_s > self.limits.max_backlog_s:
            return Verdict.DISCONNECT
        enough = self.limits.chunk_bytes if self.is_late else self.limits.most_unsent_bytes
        self.is_late = unsent_bytes > enough
        return Verdict.DROP if self.is_late else Verdict.WRITE

    def written(self, count: int) -> None:
        """The chunk has become so many bytes."""
        self._unsent_bytes += count
