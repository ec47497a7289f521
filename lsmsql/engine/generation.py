"""Generation: one WAL file and the memtables it feeds, sealed, flushed and retired as a whole."""

from __future__ import annotations

from .commit_times import CommitTimes
from .kernel import MemtableArena
from .wal import Wal


class Generation:
    """arena: the memtables of all trees; trees: those that have one there; last_seqno: of the newest commit in it, once it is sealed;
    host_seqno: of the last prepared commit up to then that was committed; times: when commits in it were made.

    The newest generation of a read state takes commits; every other is sealed and never changes again.
    """

    __slots__ = ("arena", "host_seqno", "last_seqno", "times", "trees", "wal")

    def __init__(self, arena: MemtableArena, wal: Wal, last_seqno: int = 0, host_seqno: int = 0, times: CommitTimes | None = None) -> None:
        self.arena = arena
        self.wal = wal
        self.trees: set[int] = set(arena.trees())
        self.last_seqno = last_seqno
        self.host_seqno = host_seqno
        self.times = times or CommitTimes()
