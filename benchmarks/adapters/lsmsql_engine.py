"""lsmsql by its engine API: one tree, without SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lsmsql import Options
from lsmsql import open as open_engine

from ..data import Row
from .base import CACHE_BYTES, Adapter

PASSPHRASE = "benchmark"
options = Options(durability="normal", cache_bytes=CACHE_BYTES)


class LsmsqlEngine(Adapter):
    about = "engine API, default options, durability normal (write() per commit), 128 MiB cache"
    distribution = "lsmsql"
    background_compaction = True
    key: ClassVar[str | None] = None

    def __init__(self, path: Path) -> None:
        self.engine = open_engine(str(path / "kv-lsm"), options, key=self.key)
        self.tree = self.engine.tree("kv")
        self.put: Any = self.tree.put  # type: ignore[method-assign]
        self.put_many: Any = self.tree.put_many  # type: ignore[method-assign, assignment]
        self.get: Any = self.tree.get  # type: ignore[method-assign]
        self.get_many: Any = self.tree.get_many  # type: ignore[method-assign]
        self.ingest: Any = self.tree.ingest  # type: ignore[method-assign]

    def put(self, key: bytes, value: bytes) -> None:
        self.tree.put(key, value)

    def put_many(self, rows: list[Row]) -> Any:
        self.tree.put_many(rows)

    def get(self, key: bytes) -> bytes | None:
        return self.tree.get(key)

    def scan(self, key: bytes, limit: int) -> list[Row]:
        return list(self.tree.scan(key, limit=limit))

    def scan_from(self, key: bytes) -> Iterator[Row]:
        return iter(self.tree.scan(key))

    def scan_all(self) -> Iterator[Row]:
        return iter(self.tree.scan())

    def flush(self) -> None:
        self.engine.flush()

    def compact(self) -> None:
        self.engine.compact()

    def close(self) -> None:
        self.engine.close()


class LsmsqlEngineEncrypted(LsmsqlEngine):
    about = "as lsmsql, with encryption on"
    key = PASSPHRASE
