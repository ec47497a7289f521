"""RocksDB through rocksdict, in raw mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, SstFileWriter, WriteBatch

from ..data import Row
from .base import CACHE_BYTES, Adapter


class RocksDB(Adapter):
    about = "rocksdict raw mode, default options (snappy, no filter, 32 MiB cache), WAL on, sync=false"
    distribution = "rocksdict"
    background_compaction = True

    def __init__(self, path: Path) -> None:
        self.path = path
        # Options must be given again by column_families at every opening: rocksdict drops them in silence otherwise.
        self.database: Any = Rdict(str(path / "kv"), options=self.options(), column_families={"default": self.options()})
        self.put: Any = self.database.put  # type: ignore[method-assign]
        self.get: Any = self.database.get  # type: ignore[method-assign]
        self.get_many: Any = self.database.get  # type: ignore[method-assign]

    def options(self) -> Options:
        return Options(raw_mode=True)

    def put(self, key: bytes, value: bytes) -> None:
        self.database.put(key, value)

    def put_many(self, rows: list[Row]) -> None:
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in rows:
            put(key, value)
        self.database.write(batch)

    def ingest(self, rows: list[Row]) -> None:
        writer = SstFileWriter(self.options())
        table = str(self.path / "ingest.sst")
        writer.open(table)
        for key, value in rows:
            writer[key] = value
        writer.finish()
        self.database.ingest_external_file([table])
        Path(table).unlink()

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self.database.get(key)
        return value

    def scan_from(self, key: bytes) -> Iterator[Row]:
        return iter(self.database.items(from_key=key))

    def scan_all(self) -> Iterator[Row]:
        return iter(self.database.items())

    def flush(self) -> None:
        self.database.flush()

    def compact(self) -> None:
        self.database.compact_range(None, None)

    def close(self) -> None:
        self.database.close()


class RocksDBTuned(RocksDB):
    about = "as rocksdb, with zstd on every level, 10 bits of Bloom filter, a 128 MiB cache"

    def options(self) -> Options:
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(Cache(CACHE_BYTES))
        options = super().options()
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(DBCompressionType.zstd())
        return options
