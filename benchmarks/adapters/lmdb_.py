"""LMDB through py-lmdb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from ..data import Row, batches
from .base import Adapter


class LMDB(Adapter):
    about = "py-lmdb, sync=False (no sync but in flush; a crash of the OS may damage the file), 64 GiB map"
    distribution = "lmdb"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self.environment: Any = lmdb.open(str(self.path / "kv"), map_size=64 << 30, sync=False)
        self._reader: Any = None

    def _read(self) -> Any:
        """The read transaction, kept until the next write: opening one per read would cost LMDB half its speed."""
        if self._reader is None:
            self._reader = self.environment.begin()
        return self._reader

    def _end_reading(self) -> None:
        if self._reader is not None:
            self._reader.abort()
            self._reader = None

    def put(self, key: bytes, value: bytes) -> None:
        self._end_reading()
        with self.environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def put_many(self, rows: list[Row]) -> None:
        self._end_reading()
        with self.environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(rows)

    def ingest(self, rows: list[Row]) -> None:
        """In batches with `append`: measured faster than one large transaction."""
        self._end_reading()
        for portion in batches(rows):
            with self.environment.begin(write=True) as transaction:
                transaction.cursor().putmulti(portion, append=True)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = (self._reader or self._read()).get(key)
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """One get for each key: measured faster than getmulti."""
        get = self._read().get
        return [get(key) for key in keys]

    def scan_from(self, key: bytes) -> Iterator[Row]:
        cursor = self._read().cursor()
        return iter(cursor) if cursor.set_range(key) else iter(())

    def scan_all(self) -> Iterator[Row]:
        return iter(self._read().cursor())

    def flush(self) -> None:
        self.environment.sync(True)

    def compact(self) -> None:
        """Replace the data file by LMDB's compacting copy of it."""
        self._end_reading()
        copy = self.path / "copy"
        copy.mkdir()
        self.environment.copy(str(copy), compact=True)
        self.environment.close()
        (copy / "data.mdb").replace(self.path / "kv" / "data.mdb")
        copy.rmdir()
        self._open()

    def close(self) -> None:
        self._end_reading()
        self.environment.close()
