"""What readers see: one immutable moment of generations and version, replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import ClosedError, UsageError
from .generation import Generation
from .kernel import Levels, Memtable, Table
from .manifest.version import Version

Sources = tuple[list[Memtable], Levels]  # of one tree: memtables newest first, tables by level

_NO_LEVELS = Levels([])


class LiveVersion:
    """A version with its SSTables open. The files of every LiveVersion that someone still holds are kept (obsolete_files.py)."""

    __slots__ = ("__weakref__", "levels", "tables", "version")

    def __init__(self, version: Version, tables: Mapping[int, Table], before: LiveVersion | None = None, apart: object = None) -> None:
        """tables: by file id, all those of the version and maybe more. apart: reads the values in the blob store."""
        self.version = version
        self.tables: dict[int, Table] = {record.file_id: tables[record.file_id] for record in version.tables()}
        self.levels: dict[int, Levels] = {}
        for tree_id, levels in version.levels.items():
            if before is not None and before.version.levels.get(tree_id) == levels:
                self.levels[tree_id] = before.levels[tree_id]
            else:
                self.levels[tree_id] = Levels([[tables[record.file_id] for record in level] for level in levels], apart)


class ReadState:
    """generations: newest first, the first takes commits. sources: what was looked up of it so far, by tree id.

    `sources` may be filled by any reader at any time: a memtable that appears after an entry was made holds only commits newer than
    every seqno this state is read at, because the commit that makes it replaces the state before it publishes its seqno.
    """

    __slots__ = ("__weakref__", "generations", "live", "sources")

    def __init__(self, generations: tuple[Generation, ...], live: LiveVersion) -> None:
        self.generations = generations
        self.live = live
        self.sources: dict[int, Sources] = {}

    @property
    def version(self) -> Version:
        return self.live.version

    def open_sources(self, tree_id: int) -> Sources:
        """The memtables and tables of one tree. UsageError for a dropped tree; one made later than this state is empty."""
        if tree_id not in self.version.trees and tree_id < self.version.next_tree_id:
            raise UsageError(f"tree {tree_id} was dropped")
        memtables = [memtable for generation in self.generations if (memtable := generation.arena.memtable(tree_id)) is not None]
        sources = memtables, self.live.levels.get(tree_id, _NO_LEVELS)
        self.sources[tree_id] = sources
        return sources

    def sources_of(self, tree_id: int) -> Sources:
        return self.sources.get(tree_id) or self.open_sources(tree_id)

    def close(self, message: str) -> None:
        """Every later read raises ClosedError."""
        self.sources = _ClosedSources(message)


class _ClosedSources(dict[int, Sources]):
    """Stands in for the sources of a closed database, so that reads need no check of their own."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message

    def get(self, *_: Any) -> NoReturn:
        raise ClosedError(self._message)


class Published:
    """The door for readers: read `state` first, then `seqno`.

    In that order the state may lack the newest commits, as if the read had come a moment earlier, but never the history that the seqno
    needs: a later state could have been compacted beyond it.
    """

    __slots__ = ("seqno", "state")

    def __init__(self, state: ReadState, seqno: int) -> None:
        self.state = state
        self.seqno = seqno

    def now(self) -> tuple[int, ReadState]:
        """(seqno, state) of one moment: the state holds every commit up to the seqno, and none of the history it needs is gone."""
        while True:
            seqno = self.seqno
            state = self.state  # After the seqno, so it holds all of it;
            if seqno == self.seqno:  # and no commit came between, beyond which it could have been compacted.
                return seqno, state


def closed_door(message: str) -> Published:
    """A door behind which every read raises ClosedError."""
    state = ReadState((), LiveVersion(Version(), {}))
    state.close(message)
    return Published(state, 0)
