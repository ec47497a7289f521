"""Pace: how long a writer rests while flush or compaction falls behind, so that it slows down before it ever stops."""

from __future__ import annotations

import time

_SLEEP_MIN = 50e-6
_SLEEP_MAX = 200e-6
_RATE_MIN = 1e6  # bytes per second


class Pace:
    """A token bucket of bytes that drains at the rate of the flushes. Rests come once the debt is worth 50 us, and last up to 200 us a commit.

    count, seconds: of rests, for statistics."""

    def __init__(self) -> None:
        self._debt = 0.0
        self._last = time.monotonic()
        self.count = 0
        self.seconds = 0.0

    def rest(self, size: int, rate: float) -> None:
        """Account for `size` bytes that are about to be written, while `rate` bytes per second can be flushed, and sleep if that is due."""
        now = time.monotonic()
        rate = max(rate, _RATE_MIN)
        self._debt = max(0.0, self._debt - (now - self._last) * rate) + size
        self._last = now
        owed = self._debt / rate
        if owed >= _SLEEP_MIN:
            time.sleep(min(owed, _SLEEP_MAX))
            self.count += 1
            self.seconds += time.monotonic() - now
