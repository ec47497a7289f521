"""LevelDB through plyvel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel

from ..data import Row
from .base import Adapter


class LevelDB(Adapter):
    about = "plyvel, default options (snappy, 4 MB write buffer, 8 MB cache, no filter), log on, sync=false, no call to flush its last 4 MB"
    distribution = "plyvel"
    background_compaction = True

    def __init__(self, path: Path) -> None:
        self.database = plyvel.DB(str(path / "kv"), create_if_missing=True)
        self.put: Any = self.database.put  # type: ignore[method-assign]
        self.get: Any = self.database.get  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self.database.put(key, value)

    def put_many(self, rows: list[Row]) -> None:
        with self.database.write_batch(transaction=True) as batch:
            put = batch.put
            for key, value in rows:
                put(key, value)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self.database.get(key)
        return value

    def scan_from(self, key: bytes) -> Iterator[Row]:
        return iter(self.database.iterator(start=key))

    def scan_all(self) -> Iterator[Row]:
        return iter(self.database.iterator())

    def flush(self) -> None:
        """plyvel has no call for it: LevelDB's load figures leave its last write buffer (4 MB) in the log."""

    def compact(self) -> None:
        self.database.compact_range()

    def close(self) -> None:
        self.database.close()
