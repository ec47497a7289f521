"""What a database is made of at this moment, as rows for people and SQL: its SSTables, its levels, its WALs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .read_state import ReadState
from .readable import Readable
from .storage.filenames import FileKind, file_name

Row = tuple[Any, ...]

SSTABLES = "tree TEXT, level INTEGER, file INTEGER, run INTEGER, size INTEGER, entries INTEGER, tombstones INTEGER, smallest BLOB, largest BLOB, \
min_seqno INTEGER, max_seqno INTEGER, global_seqno INTEGER, checksum TEXT, name TEXT"
LEVELS = "tree TEXT, level INTEGER, tables INTEGER, size INTEGER, entries INTEGER, tombstones INTEGER, smallest BLOB, largest BLOB"
WALS = "file INTEGER, state TEXT, size INTEGER, synced INTEGER, entries INTEGER, name TEXT"


def sstables(engine: Readable) -> Iterator[Row]:
    """One for each table, by tree, then level, newest first in level 0 and by key below; the columns of SSTABLES. Keys are user keys."""
    version = _state(engine).version
    for table in version.tables():
        yield (
            version.trees[table.tree_id],
            *(table.level, table.file_id, table.run, table.size, table.entries, table.tombstones),
            *(table.smallest, table.largest, table.min_seqno, table.max_seqno, table.global_seqno),
            table.checksum.hex(),
            file_name(FileKind.SSTABLE, table.file_id),
        )


def levels(engine: Readable) -> Iterator[Row]:
    """One for each level that holds anything; the columns of LEVELS."""
    version = _state(engine).version
    for tree_id, found in sorted(version.levels.items()):
        for number, tables in enumerate(found):
            if tables:
                sums = (sum(getattr(table, name) for table in tables) for name in ("size", "entries", "tombstones"))
                bounds = min(table.smallest for table in tables), max(table.largest for table in tables)
                yield (version.trees[tree_id], number, len(tables), *sums, *bounds)


def wals(engine: Readable) -> Iterator[Row]:
    """One for each WAL, newest first; the columns of WALS. state: whether it takes commits, or waits for its flush. synced: bytes that are known to
    outlast a power loss, 0 where another process writes."""
    for number, generation in enumerate(_state(engine).generations):
        wal = generation.wal
        state = "sealed" if number or engine.read_only else "active"
        synced = 0 if engine.read_only else wal.durable
        yield wal.id, state, wal.length + len(wal.held), synced, generation.arena.entries, file_name(FileKind.WAL, wal.id)


def _state(engine: Readable) -> ReadState:
    engine._require_open()
    return engine._published.state
