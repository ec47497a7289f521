"""Readable: what a Database and a ReadOnlyDatabase have in common: names, and reading at any moment."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from operator import itemgetter
from time import time_ns
from types import TracebackType
from typing import Self

from ..errors import HistoryError, UsageError
from ..options import Options
from .arguments import of_one_directory
from .manifest.time_points import INTERVAL_US, ordered
from .manifest.version import Version
from .read_state import Published
from .read_view import Pinning, ReadView, View
from .snapshot import Snapshot
from .tree import Moment


class Readable:
    """path: the directory, as it was given; options: those in force; database_id: 16 random bytes, for life; read_only: nothing can be written."""

    path: str
    options: Options
    database_id: bytes
    read_only: bool
    _pins: Pinning
    _published: Published

    def _require_open(self) -> None:
        raise NotImplementedError

    @property
    def _version(self) -> Version:
        """The newest."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def refresh(self) -> bool:
        """Go on to what is committed now; False if that is nothing new."""
        raise NotImplementedError

    def in_place(self) -> bool:
        """Whether the path still leads to the directory that is open."""
        raise NotImplementedError

    @property
    def seqno(self) -> int:
        """Of the last published commit."""
        return self._published.seqno

    def tree_names(self) -> list[str]:
        self._require_open()
        return sorted(self._version.trees.values())

    def _tree_id(self, name: str) -> int | None:
        return next((tree_id for tree_id, other in self._version.trees.items() if other == name), None)

    def read_view(self, seqno: int | None = None) -> ReadView:
        """Everything as of a seqno (default: now). HistoryError when it is not retained, or lies in the future."""
        self._require_open()
        if seqno is not None and not isinstance(seqno, int):
            raise UsageError(f"a seqno is an int, not {type(seqno).__name__}; for a name or snapshot pass snapshot= to the tree's reads")
        return ReadView(self, self._pins, seqno)

    def current_view(self) -> View:
        """Everything as of now, for a short read: cheaper than `read_view()`, as it pins no history."""
        self._require_open()
        return View(self, self._published)

    def view_at(self, moment: Moment | None) -> tuple[ReadView, bool]:
        """The view for a `snapshot=` argument, and whether the caller must close it."""
        if isinstance(moment, (ReadView, Snapshot)) and not of_one_directory(moment, self):
            raise UsageError("the view or snapshot belongs to another database")
        if isinstance(moment, ReadView):
            return moment, False
        if isinstance(moment, Snapshot):
            return self.read_view(moment.seqno), True
        if isinstance(moment, str):
            names = self.snapshots()
            if moment not in names:
                raise HistoryError(f"there is no snapshot named {moment!r}")
            return self.read_view(names[moment]), True
        if moment is not None and not isinstance(moment, int):
            raise UsageError(f"a moment is a view, a snapshot, its name or a seqno, not {type(moment).__name__}")
        return self.read_view(moment), True

    def seqno_at(self, moment: datetime | float) -> int:
        """The newest commit that is known to have been made by a time: a datetime with a time zone, or seconds since the Unix epoch.

        Never one made later; one made less than a second earlier may be missing, and the longer ago the more: a 64th of the time since.
        HistoryError for a time in the future, or before anything that is known. Reading at it is another matter: see `read_view`."""
        self._require_open()
        time_us = _microseconds(moment)
        seqno, state = self._published.now()
        if time_us > time_ns() // 1000:
            raise HistoryError(f"{moment} lies in the future")
        generations = reversed(state.generations)
        points = ordered([*state.version.times, *(point for generation in generations for point in tuple(generation.times.points))])
        found = bisect_right(points, time_us, key=itemgetter(1))
        if not found:
            if seqno == 0 or (points and points[0][0] <= 1):
                return 0
            raise HistoryError(f"it is not known which commits had been made by {moment}")
        if found == len(points) and time_us >= points[-1][1] + INTERVAL_US:
            return seqno  # Whatever has come since was within a second.
        return min(points[found - 1][0], seqno)

    def snapshots(self) -> dict[str, int]:
        """The named snapshots and their seqnos."""
        self._require_open()
        return dict(self._version.snapshots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


def _microseconds(moment: datetime | float) -> int:
    """Since the Unix epoch."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError(f"a time needs its time zone: {moment!r}")
        return round(moment.timestamp() * 1_000_000)
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not abs(moment) < 1 << 40:
        raise UsageError(f"a time is a datetime or seconds since the Unix epoch, not {moment!r}")
    return round(moment * 1_000_000)
