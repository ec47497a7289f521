"""Version: everything the database is made of at one edit, as a value. `apply` gives the next one and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from ..kernel.kinds import SEQNO_MAX
from .table_record import LEVELS, TableRecord
from .time_points import TimePoint, merged
from .version_edit import BlobStatistics, VersionEdit

__all__ = ["LEVELS", "NAME_BYTES_MAX", "NO_TABLES", "TREES_MAX", "Levels", "TableRecord", "Version"]

TREES_MAX = 65_536
NAME_BYTES_MAX = 1024  # Of a tree or snapshot, in UTF-8; at least 1.
SCHEMA_BYTES_MAX = 1 << 20
FILE_ID_MAX = (1 << 63) - 1
TREE_ID_MAX = (1 << 32) - 1

Levels = tuple[tuple[TableRecord, ...], ...]
NO_TABLES: Levels = ((),) * LEVELS


@dataclass(frozen=True, slots=True)
class Version:
    """trees: id -> name. schemas: tree id -> text, of SQL's trees the statement that made the table.
    levels: tree id -> its 7 levels; level 0 newest first by (max_seqno, file_id), deeper ones ascending and disjoint.
    wals: live WALs, ascending. snapshots: name -> seqno. floor: below it only named snapshots are readable. next_tree_id, next_file_id:
    nothing at or above was ever used. last_seqno: the highest flushed or ingested. wal_synced: file id of a WAL and the bytes of it that were
    synced before the last edit that said so. host_seqno: of the last prepared commit that was committed and flushed. number: of the last edit
    applied. blobs: by file id. dictionaries: (tree id, dictionary id) -> its bytes. times: thinned, from the floor on; see time_points.py.
    The mappings are never changed.
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
    blobs: Mapping[int, BlobStatistics] = field(default_factory=dict)
    dictionaries: Mapping[tuple[int, int], int] = field(default_factory=dict)
    times: tuple[TimePoint, ...] = ()

    def tables(self) -> Iterator[TableRecord]:
        """Every table, by tree id, then level, then the level's order."""
        for tree_id in sorted(self.levels):
            for level in self.levels[tree_id]:
                yield from level

    def file_ids(self) -> set[int]:
        """The ids of every SSTable and WAL."""
        return {table.file_id for table in self.tables()}.union(self.wals)

    def require_room(self) -> None:
        """ValueError for a version that was read, and is so near to a limit that nothing could be counted on from it."""
        if self.number > FILE_ID_MAX or self.next_file_id > FILE_ID_MAX // 2:
            raise ValueError(f"impossible edit number {self.number} or next file id {self.next_file_id}")
        if self.next_tree_id > TREE_ID_MAX // 2:
            raise ValueError(f"impossible next tree id {self.next_tree_id}")

    def apply(self, edit: VersionEdit) -> Version:
        """The version after an edit, which counts only once: what it says may be so already. ValueError, saying why, when it does not fit."""
        next_file_id = self.next_file_id if edit.next_file_id is None else edit.next_file_id
        if not self.next_file_id <= next_file_id <= FILE_ID_MAX:
            raise ValueError(f"next file id cannot go from {self.next_file_id} to {next_file_id}")
        trees, next_tree_id = self._trees_after(edit)
        self._require_new(edit, next_file_id)
        levels = self._levels_after(edit, trees)
        wals = self._wals_after(edit)
        floor = max(self.floor, edit.floor or 0)
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
            floor=floor,
            next_tree_id=next_tree_id,
            next_file_id=next_file_id,
            last_seqno=max(self.last_seqno, edit.last_seqno or 0),
            wal_synced=wal_synced,
            host_seqno=max(self.host_seqno, edit.host_seqno or 0),
            number=self.number + 1,
            blobs=self._blobs_after(edit, next_file_id),
            dictionaries=self._dictionaries_after(edit, trees),
            times=self._times_after(edit, floor),
        )

    def _require_new(self, edit: VersionEdit, next_file_id: int) -> None:
        """ValueError unless every file that the edit adds has an id of its own, which is reserved."""
        new_ids = [*(table.file_id for table in edit.added), *edit.wals_added]
        if not new_ids:
            return
        if not all(0 < file_id < next_file_id for file_id in new_ids):
            raise ValueError(f"file ids {new_ids} are not all reserved: the next is {next_file_id}")
        here = {record.file_id: record for record in self.tables()}
        again = {record.file_id for record in edit.added if here.get(record.file_id) == record}.union(set(edit.wals_added).intersection(self.wals))
        kept = {*here, *self.wals}.difference(edit.removed, again)
        if len(set(new_ids)) != len(new_ids) or not kept.isdisjoint(new_ids):
            raise ValueError(f"file ids {new_ids} are not all new")

    def _require_gone(self, file_ids: set[int], what: str) -> None:
        """ValueError unless files that are to be removed and are not there may have been of that sort once."""
        for file_id in sorted(file_ids):
            if not 0 < file_id < self.next_file_id or file_id in self.file_ids():
                raise ValueError(f"there is no {what} {file_id} to remove")

    def _trees_after(self, edit: VersionEdit) -> tuple[Mapping[int, str], int]:
        if not edit.trees_created and not edit.trees_dropped:
            return self.trees, self.next_tree_id
        trees = dict(self.trees)
        for tree_id in edit.trees_dropped:
            if trees.pop(tree_id, None) is None and not 0 < tree_id < self.next_tree_id:
                raise ValueError(f"there is no tree {tree_id} to drop")
        next_tree_id = self.next_tree_id
        names = set(trees.values())
        for tree_id, name in edit.trees_created:
            _check_name(name)
            if self.trees.get(tree_id) == trees.get(tree_id) == name:
                continue
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
        if len(set(edit.removed)) != len(edit.removed):
            raise ValueError(f"there is no table {next(i for i in edit.removed if edit.removed.count(i) > 1)} to remove twice")
        self._require_gone(set(edit.removed) - homes.keys(), "table")
        for file_id in homes.keys() & edit.removed:
            gone.setdefault(homes[file_id], set()).add(file_id)
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
        tables = {record.file_id for record in self.tables()} if edit.wals_removed else set()
        known = all(0 < wal_id < self.next_file_id and wal_id not in tables for wal_id in edit.wals_removed)
        if not known or len(set(edit.wals_removed)) != len(edit.wals_removed):
            raise ValueError(f"WALs {edit.wals_removed} are not all live")
        return tuple(sorted(set(self.wals).difference(edit.wals_removed).union(edit.wals_added)))

    def _snapshots_after(self, edit: VersionEdit) -> Mapping[str, int]:
        if not edit.snapshots_set and not edit.snapshots_released:
            return self.snapshots
        snapshots = dict(self.snapshots)
        for name in edit.snapshots_released:
            snapshots.pop(name, None)
        for name, seqno in edit.snapshots_set:
            _check_name(name)
            if not self.floor <= seqno <= SEQNO_MAX and self.snapshots.get(name) != seqno:
                raise ValueError(f"snapshot {name!r} at seqno {seqno} lies below the floor {self.floor}")
            snapshots[name] = seqno
        return snapshots

    def _blobs_after(self, edit: VersionEdit, next_file_id: int) -> Mapping[int, BlobStatistics]:
        if not edit.blobs_set and not edit.blobs_removed:
            return self.blobs
        blobs = {file_id: blob for file_id, blob in self.blobs.items() if file_id not in edit.blobs_removed}
        for blob in edit.blobs_set:
            if not 0 < blob.file_id < next_file_id:
                raise ValueError(f"the id of blob file {blob.file_id} is not reserved: the next is {next_file_id}")
            if blob.dead_values > blob.values or blob.dead_bytes > blob.stored_bytes:
                raise ValueError(f"in blob file {blob.file_id} more is dead than there is")
            blobs[blob.file_id] = blob
        return blobs

    def _dictionaries_after(self, edit: VersionEdit, trees: Mapping[int, str]) -> Mapping[tuple[int, int], int]:
        if not edit.dictionaries_added and not edit.dictionaries_retired and trees is self.trees:
            return self.dictionaries
        retired = set(edit.dictionaries_retired)
        dictionaries = {place: size for place, size in self.dictionaries.items() if place[0] in trees and place not in retired}
        for tree_id, dictionary_id, size in edit.dictionaries_added:
            if tree_id not in trees or not dictionary_id or not size:
                raise ValueError(f"dictionary {dictionary_id:#010x} of {size} bytes for tree {tree_id} cannot be")
            dictionaries[tree_id, dictionary_id] = size
        return dictionaries

    def _times_after(self, edit: VersionEdit, floor: int) -> tuple[TimePoint, ...]:
        if not edit.times and (floor == self.floor or len(self.times) < 2):
            return self.times
        if any(seqno > SEQNO_MAX for seqno, _ in edit.times):
            raise ValueError(f"impossible seqnos in the time points {edit.times}")
        return merged(self.times, edit.times, floor)


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode("utf-8")) <= NAME_BYTES_MAX:
        raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes in UTF-8, not {len(name.encode('utf-8'))}")


def _changed(levels: Levels, gone: set[int], came: list[TableRecord]) -> Levels:
    """The levels of one tree without some tables and with others, in their order; ValueError where a deep level would overlap."""
    after: list[tuple[TableRecord, ...]] = []
    gone = gone.union(table.file_id for table in came)  # One that is there already, just so.
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
