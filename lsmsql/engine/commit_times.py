"""CommitTimes: which commit was the newest at which time, noted once a second while commits come (time_points.py)."""

from __future__ import annotations

from .manifest.time_points import INTERVAL_US, TimePoint, thinned

_POINTS_MAX = 1024


class CommitTimes:
    """Of one generation. due: a commit at this time (microseconds since the Unix epoch) or later is to be noted; all that were not have been made
    before it. points: ascending, for the edit that flushes the generation."""

    __slots__ = ("due", "last", "points")

    def __init__(self, last: TimePoint = (0, 0)) -> None:
        """last: the newest point before, none if its seqno is 0."""
        self.points: list[TimePoint] = []
        self.go_on_from(last)

    def go_on_from(self, last: TimePoint) -> None:
        """Continue behind a point of an earlier generation."""
        self.last = last
        self.due = last[1] + INTERVAL_US if last[0] else 0

    def note(self, seqno: int, time_us: int, gap: bool = False) -> None:
        """A commit was made, not before `due`. gap: so were others, of which nothing is known, between the last one that was met and this."""
        if self.last[0] and seqno - 1 > self.last[0] and not gap:
            self.points.append((seqno - 1, self.due))
        self.points.append((seqno, time_us))
        self.go_on_from(self.points[-1])
        if len(self.points) > _POINTS_MAX:
            self.points[:] = thinned(self.points)
