"""Readable: what a Database and a ReadOnlyDatabase have in common: names, and reading at any moment."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ..errors import HistoryError, UsageError
from ..options import Options
from .arguments import of_one_directory
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

    def snapshots(self) -> dict[str, int]:
        """The named snapshots and their seqnos."""
        self._require_open()
        return dict(self._version.snapshots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()
