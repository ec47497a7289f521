"""SQLite4's LSM through lsm-db."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lsm

from ..data import Row
from .base import Adapter


class LSMDB(Adapter):
    about = "lsm-db, default options, write_safety NORMAL (syncs at checkpoints only), log on, no compression"
    distribution = "lsm-db"

    def __init__(self, path: Path) -> None:
        self.database = lsm.LSM(str(path / "kv.ldb"), write_safety=lsm.SAFETY_NORMAL)
        self.put: Any = self.database.insert  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self.database.insert(key, value)

    def put_many(self, rows: list[Row]) -> None:
        self.database.begin()
        insert = self.database.insert
        for key, value in rows:
            insert(key, value)
        self.database.commit()

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes = self.database.fetch(key)
        except KeyError:
            return None
        return value

    def scan_from(self, key: bytes) -> Iterator[Row]:
        return iter(self.database.fetch_range(key, None))

    def scan_all(self) -> Iterator[Row]:
        return iter(self.database)

    def flush(self) -> None:
        self.database.flush()

    def compact(self) -> None:
        self.database.flush()
        while self.database.work(1 << 20):
            pass
        self.database.checkpoint(0)

    def close(self) -> None:
        self.database.close()
