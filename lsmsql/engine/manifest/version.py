"""Version: everything the database is made of at one edit, as a value. `apply` gives the next one and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from ..kernel.kinds import SEQNO_MAX
from .table_record import LEVELS, TableRecord
from .version_edit import VersionEdit

__all__ = ["LEVELS", "NAME_BYTES_MAX", "NO_TABLES", "TREES_MAX", "Levels", "TableRecord", "Version"]

TREES_MAX = 65_536
NAME_BYTES_MAX = 1024  # Of a tree or snapshot, in UTF-8; at least 1.
SCHEMA_BYTES_MAX = 1 << 20
FILE_ID_MAX = (1 << 63) - 1

Levels = tuple[tuple[TableRecord, ...], ...]
NO_TABLES: Levels = ((),) * LEVELS


@dataclass(frozen=True, slots=True)
class Version:
    """trees: id -> name. schemas: tree id -> text, of SQL's trees the statement that made the table.
    levels: tree id -> its 7 levels; level 0 newest first by (max_seqno, file_id), deeper ones ascending and disjoint.
    wals: live WALs, ascending. snapshots: name -> seqno. floor: below it only named snapshots are readable. next_tree_id, next_file_id:
    nothing at or above was ever used. last_seqno: the highest flushed or ingested. wal_synced: file id of a WAL and the bytes of it that were
    synced before the last edit that said so. host_seqno: of the last prepared commit that was committed and flushed. number: of the last edit
    applied. The mappings are never changed.
    """

    trees: Mapping[int, str] = field(default_factory=dict)
    schemas: Mapping[int, str] = field(default_factory=dict)
    levels: Mapping[int, Levels] = field(default_factory=dict)
    wals: tuple[int, ...] = ()
    snapshots: Mapping[str, int] = field(default_factory=dict)
    floor: int = 0
    next_tree_id: int = 1
    next_file_id: int = 1
    last_seqno: int = 0
    wal_synced: tuple[int, int] = (0, 0)
    host_seqno: int = 0
    number: int = 0

    def tables(self) -> Iterator[TableRecord]:
        """Every table, by tree id, then level, then the level's order."""
        for tree_id in sorted(self.levels):
            for level in self.levels[tree_id]:
                yield from level

    def file_ids(self) -> set[int]:
        """The ids of every SSTable and WAL."""
        return {table.file_id for table in self.tables()}.union(self.wals)

    def apply(self, edit: VersionEdit) -> Version:
        """The version after an edit. ValueError, saying why, when the edit does not fit this version."""
        next_file_id = self.next_file_id if edit.next_file_id is None else edit.next_file_id
        if not self.next_file_id <= next_file_id <= FILE_ID_MAX:
            raise ValueError(f"next file id cannot go from {self.next_file_id} to {next_file_id}")
        trees, next_tree_id = self._trees_after(edit)
        new_ids = [*(table.file_id for table in edit.added), *edit.wals_added]
        levels = self._levels_after(edit, trees)
        wals = self._wals_after(edit)
        if new_ids:
            if not all(0 < file_id < next_file_id for file_id in new_ids):
                raise ValueError(f"file ids {new_ids} are not all reserved: the next is {next_file_id}")
            kept = self.file_ids().difference(edit.removed)
            if len(set(new_ids)) != len(new_ids) or not kept.isdisjoint(new_ids):
                raise ValueError(f"file ids {new_ids} are not all new")
        for seqno in (edit.floor, edit.last_seqno, edit.host_seqno):
            if seqno is not None and not 0 <= seqno <= SEQNO_MAX:
                raise ValueError(f"impossible seqno {seqno}")
        wal_synced = edit.wal_synced or self.wal_synced
        if wal_synced[0] >= next_file_id:
            raise ValueError(f"the WAL {wal_synced[0]} that was synced is not reserved: the next id is {next_file_id}")
        return Version(
            trees=trees,
            schemas=self._schemas_after(edit, trees),
            levels=levels,
            wals=wals,
            snapshots=self._snapshots_after(edit),
            # Two compactions may end in another order than they began, each with the floor of its beginning.
            floor=max(self.floor, edit.floor or 0),
            next_tree_id=next_tree_id,
            next_file_id=next_file_id,
            last_seqno=max(self.last_seqno, edit.last_seqno or 0),
            wal_synced=wal_synced,
            host_seqno=max(self.host_seqno, edit.host_seqno or 0),
            number=self.number + 1,
        )

    def _trees_after(self, edit: VersionEdit) -> tuple[Mapping[int, str], int]:
        if not edit.trees_created and not edit.trees_dropped:
            return self.trees, self.next_tree_id
        trees = dict(self.trees)
        for tree_id in edit.trees_dropped:
            if trees.pop(tree_id, None) is None:
                raise ValueError(f"there is no tree {tree_id} to drop")
        next_tree_id = self.next_tree_id
        names = set(trees.values())
        for tree_id, name in edit.trees_created:
            _check_name(name)
            if not self.next_tree_id <= tree_id < 1 << 32 or tree_id in trees:
                raise ValueError(f"tree id {tree_id} was used before")
            if name in names:
                raise ValueError(f"there is a tree {name!r} already")
            trees[tree_id] = name
            names.add(name)
            next_tree_id = max(next_tree_id, tree_id + 1)
        if len(trees) > TREES_MAX:
            raise ValueError(f"more than {TREES_MAX} trees")
        return trees, next_tree_id

    def _schemas_after(self, edit: VersionEdit, trees: Mapping[int, str]) -> Mapping[int, str]:
        if not edit.schemas_set and not edit.trees_dropped:
            return self.schemas
        schemas = {tree_id: text for tree_id, text in self.schemas.items() if tree_id in trees}
        for tree_id, text in edit.schemas_set:
            if tree_id not in trees:
                raise ValueError(f"a schema of tree {tree_id}, which there is not")
            if not 1 <= len(text.encode("utf-8")) <= SCHEMA_BYTES_MAX:
                raise ValueError(f"a schema has 1 to {SCHEMA_BYTES_MAX} bytes in UTF-8, not {len(text.encode('utf-8'))}")
            schemas[tree_id] = text
        return schemas

    def _levels_after(self, edit: VersionEdit, trees: Mapping[int, str]) -> Mapping[int, Levels]:
        if trees is self.trees and not edit.added and not edit.removed:
            return self.levels
        homes = {table.file_id: table.tree_id for table in self.tables()} if edit.removed else {}
        gone: dict[int, set[int]] = {}
        for file_id in edit.removed:
            tree_id = homes.pop(file_id, None)
            if tree_id is None:
                raise ValueError(f"there is no table {file_id} to remove")
            gone.setdefault(tree_id, set()).add(file_id)
        came: dict[int, list[TableRecord]] = {}
        for table in edit.added:
            table.check()
            if table.tree_id not in trees:
                raise ValueError(f"table {table.file_id} belongs to tree {table.tree_id}, which there is not")
            came.setdefault(table.tree_id, []).append(table)
        levels = {tree_id: self.levels.get(tree_id, NO_TABLES) for tree_id in trees}
        for tree_id in trees.keys() & (gone.keys() | came.keys()):
            levels[tree_id] = _changed(levels[tree_id], gone.get(tree_id, set()), came.get(tree_id, []))
        return levels

    def _wals_after(self, edit: VersionEdit) -> tuple[int, ...]:
        if not set(edit.wals_removed) <= set(self.wals) or len(set(edit.wals_removed)) != len(edit.wals_removed):
            raise ValueError(f"WALs {edit.wals_removed} are not all live")
        return tuple(sorted(set(self.wals).difference(edit.wals_removed).union(edit.wals_added)))

    def _snapshots_after(self, edit: VersionEdit) -> Mapping[str, int]:
        if not edit.snapshots_set and not edit.snapshots_released:
            return self.snapshots
        snapshots = dict(self.snapshots)
        for name in edit.snapshots_released:
            if snapshots.pop(name, None) is None:
                raise ValueError(f"there is no snapshot {name!r} to release")
        for name, seqno in edit.snapshots_set:
            _check_name(name)
            if not self.floor <= seqno <= SEQNO_MAX:
                raise ValueError(f"snapshot {name!r} at seqno {seqno} lies below the floor {self.floor}")
            snapshots[name] = seqno
        return snapshots


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode("utf-8")) <= NAME_BYTES_MAX:
        raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes in UTF-8, not {len(name.encode('utf-8'))}")


def _changed(levels: Levels, gone: set[int], came: list[TableRecord]) -> Levels:
    """The levels of one tree without some tables and with others, in their order; ValueError where a deep level would overlap."""
    after: list[tuple[TableRecord, ...]] = []
    for number, level in enumerate(levels):
        tables = [table for table in level if table.file_id not in gone]
        tables += [table for table in came if table.level == number]
        if number == 0:
            tables.sort(key=lambda table: (table.max_seqno, table.file_id), reverse=True)
        else:
            tables.sort(key=lambda table: table.smallest)
            for left, right in pairwise(tables):
                if left.largest >= right.smallest:
                    raise ValueError(f"tables {left.file_id} and {right.file_id} overlap in level {number} of tree {left.tree_id}")
        after.append(tuple(tables))
    return tuple(after)
