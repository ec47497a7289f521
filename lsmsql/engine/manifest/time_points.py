"""Time points: which commit was the newest at which time, the finer the later.

A point (seqno, time) says that every commit up to `seqno` was made by `time`, microseconds since the Unix epoch. Points ascend in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

TimePoint = tuple[int, int]

INTERVAL_US = 1_000_000
"""No two commits further apart than this are without a point between them."""
_AGE_SHARE = 64  # A point as old as t may be t / 64 away from the one before: some two thousand points for a century.


def merged(points: tuple[TimePoint, ...], added: Iterable[TimePoint], floor: int) -> tuple[TimePoint, ...]:
    """Points and further ones, thinned as they age, without those that say nothing of the history from `floor` on."""
    found = ordered((*points, *added))
    older = [point for point in found if point[0] <= floor]
    return thinned(older[-1:] + found[len(older) :])


def ordered(points: Iterable[TimePoint]) -> list[TimePoint]:
    """Points from several places, ascending in both."""
    found: list[TimePoint] = []
    for seqno, time_us in sorted(set(points)):
        if found and (time_us < found[-1][1] or found[-1][0] == seqno):
            continue  # A clock that was set back: what it showed before has been told already.
        found.append((seqno, time_us))
    return found


def thinned(points: list[TimePoint]) -> tuple[TimePoint, ...]:
    """Leave out points whose neighbours are near enough to each other for their age; the first and the last stay."""
    if len(points) < 3:
        return tuple(points)
    newest = points[-1][1]
    kept = [points[0]]
    for point, after in pairwise(points[1:]):
        if after[1] - kept[-1][1] > (newest - after[1]) // _AGE_SHARE:
            kept.append(point)
    return (*kept, points[-1])
