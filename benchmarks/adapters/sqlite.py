"""SQLite through APSW, key and value columns in a WITHOUT ROWID table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from ..data import Row
from .base import Adapter


class SQLite(Adapter):
    """The base of every system with SQL: a subclass gives another connection and another CREATE."""

    about = "APSW, WITHOUT ROWID, WAL, synchronous=NORMAL (syncs at checkpoints only), 2 MB cache"
    distribution = "apsw"
    sql = True
    create = "CREATE TABLE kv(key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"

    def __init__(self, path: Path) -> None:
        self.connection = self.connect(path)
        if self.connection.pragma("schema_version") == 0 or not self.connection.table_exists(None, "kv"):
            self.connection.execute(self.create)

    def connect(self, path: Path) -> apsw.Connection:
        connection = apsw.Connection(str(path / "kv.db"))
        for pragma, value in (("journal_mode", "wal"), ("synchronous", "normal")):
            connection.pragma(pragma, value)
        return connection

    def put(self, key: bytes, value: bytes) -> None:
        self.connection.execute("INSERT OR REPLACE INTO kv(key, value) VALUES (?, ?)", (key, value))

    def put_many(self, rows: list[Row]) -> None:
        with self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO kv(key, value) VALUES (?, ?)", rows)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self.connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).get
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        places = ("?," * len(keys))[:-1]
        found = dict(self.connection.execute(f"SELECT key, value FROM kv WHERE key IN ({places})", keys))
        return [found.get(key) for key in keys]

    def scan(self, key: bytes, limit: int) -> list[Row]:
        rows: list[Row] = self.connection.execute("SELECT key, value FROM kv WHERE key >= ? ORDER BY key LIMIT ?", (key, limit)).fetchall()
        return rows

    def scan_from(self, key: bytes) -> Iterator[Row]:
        return self.connection.execute("SELECT key, value FROM kv WHERE key >= ? ORDER BY key", (key,))

    def scan_all(self) -> Iterator[Row]:
        return self.connection.execute("SELECT key, value FROM kv ORDER BY key")

    def flush(self) -> None:
        self.connection.pragma("wal_checkpoint(TRUNCATE)")

    def compact(self) -> None:
        self.connection.execute("VACUUM")
        self.flush()

    def close(self) -> None:
        self.connection.close()


class SQLiteTuned(SQLite):
    about = "as sqlite, with a 128 MiB cache, mmap_size 1 GiB, a checkpoint every 64 MiB of WAL"

    def connect(self, path: Path) -> apsw.Connection:
        connection = super().connect(path)
        for pragma, value in (("cache_size", -(128 << 10)), ("mmap_size", 1 << 30), ("wal_autocheckpoint", (64 << 20) // 4096)):
            connection.pragma(pragma, value)
        return connection
