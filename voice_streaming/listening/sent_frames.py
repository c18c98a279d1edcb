"""Which part of the live MP3 a listener got, so that a place in its audio has a time."""

from __future__ import annotations

from collections import deque

MOST_GAPS = 32
"""Older ones count as before the first byte: what a player still has to play is seconds, and holds few gaps."""


class SentFrames:
    """All frames of the clock from the first on, but for gaps."""

    def __init__(self, first_frame: int) -> None:
        self._first_frame = first_frame
        self._gaps: deque[tuple[int, int]] = deque()
        """Frames that were sent before the gap, and how many it lacks."""
        self._skipped = 0
        """Of all gaps."""

    def skip(self, frame: int, count: int) -> None:
        """The listener does not get `count` frames from `frame` on; to be called in the frames' order."""
        sent = frame - self._first_frame - self._skipped
        self._skipped += count
        if self._gaps and self._gaps[-1][0] == sent:
            _, before = self._gaps.pop()
            count += before
        self._gaps.append((sent, count))
        if len(self._gaps) > MOST_GAPS:
            self._first_frame += self._gaps[0][1]
            self._skipped -= self._gaps[0][1]
            self._gaps.popleft()

    def frame_at(self, played_frames: float) -> float:
        """The clock's frame that comes after so many of the listener's."""
        skipped = sum(count for sent, count in self._gaps if sent <= played_frames)
        return self._first_frame + skipped + played_frames
