"""What a database is made of, told from its tables and WALs alone: which of them still count, and in which level. Pure; repair.py does it.

A file that no version named any more may still lie there, or come back after a power loss. Taken in again, its rows would show through where
a compaction has dropped the tombstones above them. So each table names

    run        the tables that were written together with it
    replaced   the tables that those were merged from
    obsolete   files that had gone out of the version by then, and were not gone from the disk for good

What is named as obsolete is. A run counts as installed if all of it is there, if a later table was made from a part of it, or if one of
those that it replaces is missing, as that is removed only behind the edit: then what it replaces is superseded. Else it was never
finished, and what it would have replaced counts. A file that a table could have been merged from since is always named, because that merge
began behind the edit that made it obsolete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .manifest.table_record import LEVELS, TableRecord
from .manifest.version_edit import VersionEdit
from .sstable.properties import Properties
from .wal import Catalog

OBSOLETE = "obsolete: no version named it any more"
SUPERSEDED = "obsolete: a compaction has replaced it"
UNFINISHED = "left over from a compaction that was not finished"
DROPPED = "of a tree that was dropped"


@dataclass(frozen=True, slots=True)
class FoundWal:
    """A WAL that can be read. before: seqno of the last commit before it; seqno: the last one published when it began; trees: what was done
    to trees while it took commits; last: the last commit in it."""

    wal_id: int
    catalog: Catalog
    seqno: int
    before: int
    trees: tuple[VersionEdit, ...] = ()
    last: int = 0

    @property
    def newest_seqno(self) -> int:
        """The highest that it knows of."""
        return max(self.before, self.seqno, self.last)


@dataclass
class Trees:
    """trees, schemas: by id; next_id: none at or above was ever used; known: whether a WAL has told them, so that others were dropped."""

    names: dict[int, str] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    next_id: int = 1
    known: bool = False

    @classmethod
    def told_by(cls, wal: FoundWal | None) -> Trees:
        """The trees at the end of the newest WAL."""
        if wal is None:
            return cls()
        catalog = wal.catalog
        found = cls(dict(catalog.trees), dict(catalog.schemas), max([catalog.next_tree_id, *(tree_id + 1 for tree_id in catalog.trees)]), True)
        for edit in wal.trees:
            for tree_id in edit.trees_dropped:
                found.names.pop(tree_id, None)
                found.schemas.pop(tree_id, None)
            found.names.update(edit.trees_created)
            found.schemas.update(edit.schemas_set)
            found.next_id = max([found.next_id, *(tree_id + 1 for tree_id, _ in edit.trees_created)])
        return found

    def add(self, properties: Properties) -> bool:
        """Take in the tree of a table; False if that was dropped. Newest tables first, since an older one may have an older schema."""
        tree_id = properties.tree_id
        if tree_id not in self.names:
            if self.known and tree_id < self.next_id:
                return False
            if properties.tree_name in self.names.values():
                return False  # Another of that name was made since.
            self.names[tree_id] = properties.tree_name
        if properties.schema:
            self.schemas.setdefault(tree_id, properties.schema)
        return True


def superseded(tables: Mapping[int, Properties]) -> dict[int, str]:
    """Which tables do not count, and why. tables: by file id, all that can be read."""
    why = {file_id: OBSOLETE for properties in tables.values() for file_id in properties.obsolete if file_id in tables}
    left = {file_id: properties for file_id, properties in tables.items() if file_id not in why}
    merged = {file_id: properties.run for properties in left.values() for file_id in properties.replaced}
    for run in {properties.run for properties in left.values()}:
        members = [left[file_id] for file_id in run if file_id in left]
        inputs = set(members[0].replaced)
        installed = (
            len(members) == len(run)
            or not inputs
            or not inputs <= left.keys()
            or any(file_id in merged and merged[file_id] != run for file_id in run)
        )
        for file_id in inputs & left.keys() if installed else [member.file_id for member in members]:
            why[file_id] = SUPERSEDED if installed else UNFINISHED
    return why


def live_wals(wals: Mapping[int, FoundWal], obsolete: Iterable[int]) -> list[int]:
    """Which WALs hold what may be in no table, ascending: the newest, and those before it that were live when it began, without a gap."""
    gone = set(obsolete)
    left = [wal_id for wal_id in sorted(wals) if wal_id not in gone]
    if not left:
        return []
    found = [left[-1]]
    for predecessor in reversed(wals[left[-1]].catalog.predecessors):
        if predecessor.wal_id not in left:
            break  # It was flushed, and those before it earlier.
        found.append(predecessor.wal_id)
    return found[::-1]


def placed(records: Sequence[TableRecord]) -> list[TableRecord]:
    """The tables of one tree, each in the deepest level where all that overlap it from above are newer; what cannot be told in level 0, where
    the seqno of each entry decides."""
    ordered = sorted(records, key=lambda record: record.smallest)
    overlapping: dict[int, list[TableRecord]] = {record.file_id: [] for record in ordered}
    open_ones: list[TableRecord] = []
    for record in ordered:
        open_ones = [other for other in open_ones if other.largest >= record.smallest]
        for other in open_ones:
            overlapping[record.file_id].append(other)
            overlapping[other.file_id].append(record)
        open_ones.append(record)
    result: list[TableRecord] = []
    remaining = {record.file_id for record in ordered}
    for level in range(LEVELS - 1, 0, -1):
        oldest = [
            record
            for record in ordered
            if record.file_id in remaining
            and all(other.min_seqno > record.max_seqno for other in overlapping[record.file_id] if other.file_id in remaining)
        ]
        result += [replace(record, level=level) for record in oldest]
        remaining.difference_update(record.file_id for record in oldest)
    return result + [replace(record, level=0) for record in ordered if record.file_id in remaining]
