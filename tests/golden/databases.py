"""What the golden databases hold, and how they are made: one story, told to an engine under each kind of options, and to a dict."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

import lsmsql
from lsmsql import Options
from lsmsql.connection import connect
from lsmsql.engine.kernel import MemtableArena
from lsmsql.engine.sstable.blob_files import LinkedBlobFile
from lsmsql.engine.sstable.range_tombstones import RangeTombstone, fragment
from lsmsql.engine.sstable.sentinel import begin_sentinel
from lsmsql.engine.sstable.writer import TableSink, begin_tables, finish_tables, table_stream
from lsmsql.engine.storage.dictionary import Dictionary
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem

PLACE = Path(__file__).parent
DIRECTORY = "/db"
PASSPHRASE = "a golden passphrase"
KEY = bytes(range(100, 132))
SMALL = {"background": False, "block_bytes": 400, "l0_tables": 9, "l0_slowdown": 9}

DATABASES: dict[str, tuple[Options, str | bytes | None]] = {
    "plain": (Options(**SMALL), None),  # type: ignore[arg-type]
    "passphrase": (Options(**SMALL), PASSPHRASE),  # type: ignore[arg-type]
    "key": (Options(compression_level=(1, 5), **SMALL), KEY),  # type: ignore[arg-type]
    "parity": (Options(parity="rs(4,2)", filter="burr", compression="none", **SMALL), None),  # type: ignore[arg-type]
    "rows": (Options(block_layout="rows", restart_interval=4, kv_checksums="all", compression="none", **SMALL), None),  # type: ignore[arg-type]
    "partitioned": (Options(index="partitioned", partition_bytes=100, prefix="fixed:4", compression_level=3, **SMALL), KEY),  # type: ignore[arg-type]
    "parts": (Options(block_parts=4, compression_level=3, **SMALL), KEY),  # type: ignore[arg-type]
}
"""Name -> options and key."""

Rows = list[tuple[bytes, bytes]]


def readings(first: int, last: int, what: str = "value") -> Rows:
    return [(b"device-%03d/%d" % (n, n % 3), (f"{what} {n:03d} " * (1 + n % 4)).encode()) for n in range(first, last)]


STORY: list[tuple[Any, ...]] = [
    ("put", "readings", [*readings(0, 30), (b"", b"of the empty key")]),
    ("put", "names", [(b"n%d" % n, b"" if n % 2 else b"name" * n) for n in range(9)]),
    ("flush",),
    ("snapshot", "monday"),
    ("put", "readings", readings(10, 16, "other")),
    ("delete", "readings", [key for key, _ in readings(3, 8)]),
    ("flush",),
    ("ingest", "readings", [(b"ingested %02d" % n, b"%d" % n) for n in range(8)]),
    ("compact",),
    ("put", "readings", readings(14, 18, "third")),
    ("put", "third tree", [(b"k" * 300, b"v" * 500)]),
    ("flush",),
    ("put", "names", [(b"in the WAL", b"alone")]),
    ("delete", "readings", [b""]),
]


def tell(engine: Any) -> None:
    """The story, to an open engine."""
    for what, *arguments in STORY:
        if what == "put":
            engine.tree(arguments[0]).put_many(arguments[1])
        elif what == "delete":
            with engine.batch() as batch:
                for key in arguments[1]:
                    batch.delete(engine.tree(arguments[0]), key)
        elif what == "ingest":
            engine.tree(arguments[0]).ingest(arguments[1])
        elif what == "snapshot":
            engine.snapshot(arguments[0]).close()
        else:
            getattr(engine, what)()


def told() -> dict[str, Any]:
    """What a reader sees after the story: trees, and trees by snapshot."""
    trees: dict[str, dict[bytes, bytes]] = {}
    snapshots: dict[str, Mapping[str, dict[bytes, bytes]]] = {}
    for what, *arguments in STORY:
        if what in ("put", "ingest"):
            trees.setdefault(arguments[0], {}).update(arguments[1])
        elif what == "delete":
            for key in arguments[1]:
                del trees[arguments[0]][key]
        elif what == "snapshot":
            snapshots[arguments[0]] = {name: dict(tree) for name, tree in trees.items()}
    return {"trees": trees, "snapshots": {label: {name: old.get(name, {}) for name in trees} for label, old in snapshots.items()}}


def made(name: str) -> dict[str, bytes]:
    """The files of a database by their names."""
    options, key = DATABASES[name]
    fs = MemoryFileSystem()
    engine = lsmsql.open(DIRECTORY, options, key=key, filesystem=fs)
    tell(engine)
    engine.close()
    return {path.rpartition("/")[2]: data for path, data in fs.files().items() if not path.endswith("LOCK")}


# Tables with what no database writes yet.

FRAGMENTS = fragment([RangeTombstone(b"a", b"m", 9), RangeTombstone(b"f", b"z", 4)])
BLOBS = (LinkedBlobFile(3, 10, 5000, 1200), LinkedBlobFile(9, 1, 1 << 33, 1 << 32))
ITEMS = [(b"key %03d" % n, b"some text that repeats itself, number %03d" % n) for n in range(50)]
TABLES = ("range_tombstones", "sentinel", "dictionary")


@dataclass
class _Clock:
    now: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now


def made_table(name: str) -> dict[str, bytes]:
    """The file of one table, by its name."""
    fs = MemoryFileSystem(directories=[DIRECTORY])
    options = Options(block_bytes=400)
    sink = TableSink(fs, DIRECTORY, b"a golden id, 16.", None, lambda: 1, options, 1, "golden", 0, 1, clock=_Clock())
    if name == "sentinel":
        finish_tables(begin_sentinel(FRAGMENTS, sink), sink)
    else:
        arena = MemtableArena(1 << 20)
        arena.begin()
        arena.put_many(1, ITEMS)
        arena.seal(2, 1, 0, 7, 0, 0)
        arena.index(7)
        dictionary = None
        if name == "dictionary":
            samples = [b"some text that repeats itself, number %03d, " % n * 9 for n in range(300)]
            dictionary = Dictionary(zstandard.train_dictionary(512, samples).as_bytes())
        stream = table_stream([arena.memtable(1)], options, encrypted=False, floor=0, dictionary=dictionary, sink=sink)
        begun = begin_tables(stream, sink)
        if name == "range_tombstones":
            begun[0].attach(range_tombstones=FRAGMENTS, blob_files=BLOBS)
        finish_tables(begun, sink)
    return {path.rpartition("/")[2]: data for path, data in fs.files().items()}


# A database with tables of SQL.

SQL = (
    "CREATE TABLE ordinary(x); CREATE VIRTUAL TABLE t USING lsm(a TEXT COLLATE NOCASE, b INTEGER, c REAL, d BLOB, PRIMARY KEY (a, b DESC));"
    "CREATE VIRTUAL TABLE r USING lsm(id INTEGER PRIMARY KEY, x)"
)
SQL_ROWS = [("text", 5, 1.5, b"\x00blob"), ("Text", 6, -2.0, None), ("", -(1 << 62), 1e300, b""), ("z\x00z", 0, None, b"\xff" * 40)]


def made_by_sql(path: Path) -> dict[str, bytes]:
    """The files of app.db and its engine, by path relative to a directory that `path` lies in."""
    connection = connect(str(path / "app.db"), key=PASSPHRASE, options=Options(**SMALL))  # type: ignore[arg-type]
    connection.pragma("journal_mode", "delete")
    connection.execute(SQL)
    connection.execute("BEGIN; INSERT INTO ordinary VALUES (1), (2)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", SQL_ROWS)
    connection.execute("INSERT INTO r VALUES (7, 'seven'), (-1, NULL); COMMIT")
    connection.engine.flush()
    connection.execute("UPDATE r SET x = 'seven again' WHERE id = 7")
    connection.close()
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name not in ("LOCK", "READERS")]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


# Archives: a table of a few hundred bytes takes 16 KiB, most of them zeros.


def pack(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data, compresslevel=9)
    return out.getvalue()


def stored(name: str) -> dict[str, bytes]:
    """The files of a golden database or table."""
    with zipfile.ZipFile(PLACE / f"{name}.zip") as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}
