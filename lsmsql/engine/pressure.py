"""Pressure: how far flush and compaction are behind the writers, and what that costs these."""

from __future__ import annotations

from .background import Background, Inline
from .pace import Pace
from .upkeep import Upkeep


class Pressure:
    """Writers are slowed down in small steps before they ever stop.

    level: 0 nothing behind; 1: writers stop. stops: how often they had to. Used under the commit lock, but for `update`.
    """

    def __init__(self, upkeep: Upkeep, worker: Background | Inline, l0_slowdown: int, l0_stop: int, sealed_max: int) -> None:
        """l0_slowdown, l0_stop: tables in level 0 of a tree; sealed_max: generations that wait for their flush."""
        self._upkeep = upkeep
        self._worker = worker
        self._l0_slowdown = l0_slowdown
        self._l0_stop = l0_stop
        self._sealed_max = sealed_max
        self._paced = 0  # Bytes of WAL that `pace` knows of.
        self.pace = Pace()
        self.level = 0.0
        self.stops = 0

    def update(self, written: int) -> None:
        """Work out the level anew. written: bytes of WAL since opening."""
        sealed = len(self._upkeep.sealed())
        level_0 = self._upkeep.level_0_tables()
        level = 0.0
        if level_0 >= self._l0_slowdown:
            level = level_0 / self._l0_stop
        if sealed >= self._sealed_max:
            level = max(level, 0.5)
        if level and not self.level:
            self._paced = written  # What was written while nothing was behind is not to be paid for.
        self.level = level

    def slow_down(self, written: int) -> None:
        """Make a writer wait for what it owes. written: as above."""
        self.pace.rest(written - self._paced, self._upkeep.drain_rate * max(0.05, 1 - self.level))
        self._paced = written
        if self.level >= 1:
            self.stops += 1
            self._worker.wait_until(self._level_0_has_room)

    def wait_for_room(self) -> None:
        """Wait until one more generation may be sealed."""
        if not self._has_room():
            self.stops += 1
            self._worker.wait_until(self._has_room)

    def _has_room(self) -> bool:
        return len(self._upkeep.sealed()) < self._sealed_max

    def _level_0_has_room(self) -> bool:
        return self._upkeep.level_0_tables() < self._l0_stop
