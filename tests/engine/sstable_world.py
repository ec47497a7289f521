"""SSTables for tests: sources to write them from, sinks to write them to, and what can be read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from lsmsql.engine.kernel import BlockCache, Levels, MemtableArena, Scan, SortedRows, Table, get_entry
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.reader import close_table, open_table
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, TableOfContents, parse_sector
from lsmsql.engine.sstable.writer import TableSink, table_stream, write_tables
from lsmsql.engine.storage.dictionary import Dictionary
from lsmsql.engine.storage.filesystem import FileSystem
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.options import Options

DIRECTORY = "/db"
TREE = 7
KEY = bytes(range(32))
DATABASE_ID = b"a database id 16"
SMALL = Options(block_bytes=256, table_bytes=1 << 20, compression="zstd")
Operation = tuple[bytes, bytes | None]  # key, value; None deletes


def memory() -> MemoryFileSystem:
    return MemoryFileSystem(directories=[DIRECTORY])


def new_keyring(fs: FileSystem) -> Keyring:
    return Keyring.create(fs, DIRECTORY, KEY, database_id=DATABASE_ID)


def counter(first: int = 1) -> Callable[[], int]:
    ids = iter(range(first, 1 << 40))
    return lambda: next(ids)


def sink(fs: FileSystem, keyring: Keyring | None = None, options: Options = SMALL, **more: Any) -> TableSink:
    fields = {"tree_id": TREE, "tree_name": "readings", "level": 0, "edit_number": 3, "new_file_id": counter(), "clock": counter(1_000_000), **more}
    return TableSink(fs=fs, directory=DIRECTORY, database_id=DATABASE_ID, keyring=keyring, options=options, **fields)


def memtable(commits: Iterable[tuple[int, Sequence[Operation]]]) -> Any:
    """A memtable of TREE with the operations of some commits: (seqno, operations)."""
    arena = MemtableArena(1 << 20)
    for seqno, operations in commits:
        arena.begin()
        for key, value in operations:
            if value is None:
                arena.delete(TREE, key)
            else:
                arena.put(TREE, key, value)
        arena.seal(2, 1, 0, seqno, 0, 0)
        arena.index(seqno)
    found = arena.memtable(TREE)
    assert found is not None
    return found, arena  # the arena owns the bytes: keep it


def rows(count: int, width: int = 20, prefix: bytes = b"SECRETKEY") -> list[tuple[bytes, bytes]]:
    return [(b"%s-%05d" % (prefix, n), (b"SECRETVALUE-%d-" % n).ljust(width, b"v")) for n in range(count)]


def write(
    fs: FileSystem,
    commits: Iterable[tuple[int, Sequence[Operation]]],
    keyring: Keyring | None = None,
    options: Options = SMALL,
    dictionary: Dictionary | None = None,
    **more: Any,
) -> list[TableRecord]:
    """Flush some commits, keeping every version."""
    source, _arena = memtable(commits)
    stream = table_stream([source], options, encrypted=keyring is not None, floor=0, dictionary=dictionary)
    return write_tables(stream, sink(fs, keyring, options, **more))


def write_rows(fs: FileSystem, items: Sequence[tuple[bytes, bytes]], keyring: Keyring | None = None, options: Options = SMALL) -> list[TableRecord]:
    """Write rows as an ingest does, with seqno 0."""
    return write_tables(table_stream([SortedRows(items)], options, encrypted=keyring is not None, floor=0), sink(fs, keyring, options))


def opened(fs: FileSystem, record: TableRecord, keyring: Keyring | None = None, cache_bytes: int = 1 << 20) -> Table:
    return open_table(fs, DIRECTORY, record, keyring, BlockCache(cache_bytes), database_id=DATABASE_ID)


def lookup(tables: Sequence[Table], key: bytes, seqno: int = 1 << 50) -> tuple[int, int, bytes] | None:
    """(seqno, kind, value) of the newest version over tables of level 0."""
    found = get_entry([], Levels([list(tables)]), key, seqno)
    return None if found is None else tuple(found)  # type: ignore[return-value]


def contents(tables: Sequence[Table], seqno: int = 1 << 50) -> list[tuple[bytes, bytes]]:
    """The visible rows over tables of level 0."""
    return list(Scan([], Levels([list(tables)]), None, None, seqno))


def close(*tables: Table) -> None:
    for table in tables:
        close_table(table)


def with_fields(record: TableRecord, **fields: Any) -> TableRecord:
    return replace(record, **fields)


def contents_of(data: bytes) -> TableOfContents:
    """What the file of a table says that it holds."""
    return parse_sector(data[-SECTOR_BYTES:], len(data))
